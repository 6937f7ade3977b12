import { MAX_REVOCATIONS, type Revocation } from '@sepia/cluster/api/revocation';
import { REVOCATION_KEPT_MS } from '../../deadlines.ts';

/** Revocations kept for agents that beat late; beyond these the oldest go. */
const MAX_KEPT = 10_000;

interface Kept {
  readonly seq: number;
  readonly atMs: number;
  readonly revoked: Revocation;
}

/**
 * What was revoked lately, in order. Each node says up to where it heard: a cursor `<epoch>.<seq>`; the epoch is that
 * of this process, a node with another is told everything. Pure.
 */
export class Revocations {
  readonly #epoch: string;
  #kept: Kept[] = [];
  #seq = 0;

  constructor(epoch: string) {
    this.#epoch = epoch;
  }

  get size(): number {
    return this.#kept.length;
  }

  add(revoked: readonly Revocation[], nowMs: number): void {
    for (const one of revoked) {
      this.#seq += 1;
      this.#kept.push({ seq: this.#seq, atMs: nowMs, revoked: one });
    }
    this.#expire(nowMs);
  }

  /** The revocations after `cursor` that a node has not heard of, and the cursor for its next question. */
  after(cursor: string | undefined, nowMs: number): { revoked: readonly Revocation[]; cursor: string } {
    this.#expire(nowMs);
    const heard = this.#seqOf(cursor);
    const from = this.#kept.findIndex(({ seq }) => seq > heard);
    const told = from === -1 ? [] : this.#kept.slice(from, from + MAX_REVOCATIONS);
    const last = told.at(-1)?.seq ?? this.#seq;
    return { revoked: told.map((one) => one.revoked), cursor: `${this.#epoch}.${last}` };
  }

  #seqOf(cursor: string | undefined): number {
    const dot = cursor?.lastIndexOf('.') ?? -1;
    if (cursor === undefined || dot === -1 || cursor.slice(0, dot) !== this.#epoch) return 0;
    const seq = Number(cursor.slice(dot + 1));
    return Number.isSafeInteger(seq) && seq >= 0 ? seq : 0;
  }

  #expire(nowMs: number): void {
    const over = this.#kept.length - MAX_KEPT;
    const fresh = this.#kept.findIndex(({ atMs }) => atMs > nowMs - REVOCATION_KEPT_MS);
    const drop = Math.max(over, fresh === -1 ? this.#kept.length : fresh);
    if (drop > 0) this.#kept = this.#kept.slice(drop);
  }
}
