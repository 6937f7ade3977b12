import { linkKey } from '@sepia/base/names/blob-name';
import type { Revocation } from '../api/revocation.ts';

/**
 * How long a link that was looked up is believed, in ms. Where links can be deleted this bounds how long a member that
 * could not be told of a delete goes on as before.
 */
export const LINK_BELIEF_MS = {
  /** By a member, where links can be deleted. */
  member: 10_000,
  /** By a node, where links can be deleted: it hears of deletes with its leases. */
  node: 30_000,
  /** By a member, where nothing is deleted. */
  lasting: 60_000,
} as const;

interface LedgerOptions<V> {
  /** How long a link of an upstream is believed, in ms; undefined: its links stay, they are believed unasked and not noted. */
  readonly beliefMs: (upstream: string) => number | undefined;
  /** Most that is remembered, as {@link costOf} counts; what was used longest ago goes first. */
  readonly limit: number;
  /** What one note costs of the limit. 1 where it is not given. */
  readonly costOf?: (value: V) => number;
  /** What is believed no more goes with the next notes, for nobody asks {@link LinkLedger.isKnown}. */
  readonly isForgetful?: boolean;
}

/** A link is looked up again after this part of the time for which it is believed, or up to {@link RENEW_SPREAD} later. */
const RENEW_AFTER = 0.65;
/** Spreads the look-ups of links that were noted together. */
const RENEW_SPREAD = 0.2;
/** The fractional parts of its multiples are spread evenly between 0 and 1. */
const GOLDEN = (Math.sqrt(5) - 1) / 2;

interface Note<V> {
  readonly value: V;
  readonly untilMs: number;
  /** Infinity once {@link LinkLedger.isDue} has said so. */
  renewMs: number;
}

/** A look-up that begins: its answer holds no longer than from then, and no further than the next revocation. */
export interface LookUp {
  readonly atMs: number;
  readonly revision: number;
}

/**
 * Belief in links (upstream, repository) → digest: what was found by a look-up, for how long it is believed, and that a
 * revocation ends it, also for an answer that was under way. Pure: time is passed in.
 */
export class LinkLedger<V> {
  readonly #options: LedgerOptions<V>;
  readonly #notes = new Map<string, Note<V>>();
  #used = 0;
  #revision = 0;
  #noted = 0;

  constructor(options: LedgerOptions<V>) {
    this.#options = options;
  }

  /** Before anybody is asked: what {@link note} needs with the answer. */
  begin(nowMs: number): LookUp {
    return { atMs: nowMs, revision: this.#revision };
  }

  /** What the notes cost together. */
  get used(): number {
    return this.#used;
  }

  /** False if the link must be looked up before anything is served by it. */
  isBelieved(name: Revocation, nowMs: number): boolean {
    return this.#options.beliefMs(name.upstream) === undefined || this.get(name, nowMs) !== undefined;
  }

  /** What was noted with the link, while it is believed. */
  get(name: Revocation, nowMs: number): V | undefined {
    const key = linkKey(name);
    const found = this.#notes.get(key);
    if (found === undefined || found.untilMs <= nowMs) return undefined;
    this.#notes.delete(key);
    this.#notes.set(key, found);
    return found.value;
  }

  /**
   * True once for each note, when most of its time is over but it is still believed: a link in frequent use is renewed before
   * it expires, so that no request waits.
   */
  isDue(name: Revocation, nowMs: number): boolean {
    const found = this.#notes.get(linkKey(name));
    if (found === undefined || found.renewMs > nowMs || found.untilMs <= nowMs) return false;
    found.renewMs = Number.POSITIVE_INFINITY;
    return true;
  }

  /** True if it was noted and not revoked, believed or not: what is known when nobody can be asked. */
  isKnown(name: Revocation): boolean {
    return this.#notes.has(linkKey(name));
  }

  /**
   * A look-up found the link; it is believed from the time on when it was asked for. Nothing is noted if something was
   * revoked since, nor what alone exceeds the limit.
   */
  note(name: Revocation, value: V, lookUp: LookUp): void {
    const { beliefMs, limit, isForgetful } = this.#options;
    const periodMs = beliefMs(name.upstream);
    const cost = this.#costOf(value);
    if (lookUp.revision !== this.#revision || periodMs === undefined || cost > limit) return;
    this.#forget(name);
    this.#noted += 1;
    const part = RENEW_AFTER + RENEW_SPREAD * ((this.#noted * GOLDEN) % 1);
    const [untilMs, renewMs] = [lookUp.atMs + periodMs, lookUp.atMs + periodMs * part];
    this.#notes.set(linkKey(name), { value, untilMs, renewMs });
    this.#used += cost;
    const isOver = ({ untilMs }: Note<V>): boolean => isForgetful === true && untilMs <= lookUp.atMs;
    for (const [key, oldest] of this.#notes) {
      if (this.#used <= limit && !isOver(oldest)) return;
      this.#notes.delete(key);
      this.#used -= this.#costOf(oldest.value);
    }
  }

  /** A look-up found no link: drops what was noted of it. */
  deny(name: Revocation): void {
    this.#forget(name);
  }

  /** Links were deleted: drops their notes, and voids the answers of all look-ups that are under way. */
  revoke(revoked: readonly Revocation[]): void {
    this.#revision += 1;
    for (const name of revoked) this.#forget(name);
  }

  /** Forgets all, as if nothing had been looked up; what is under way is noted. */
  forgetAll(): void {
    this.#notes.clear();
    this.#used = 0;
  }

  #forget(name: Revocation): void {
    const key = linkKey(name);
    const found = this.#notes.get(key);
    if (found === undefined) return;
    this.#notes.delete(key);
    this.#used -= this.#costOf(found.value);
  }

  #costOf(value: V): number {
    return this.#options.costOf?.(value) ?? 1;
  }
}
