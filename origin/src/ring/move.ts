import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_RING, type RingStatus } from '@sepia/cluster/api/ring';
import { to } from '@sepia/cluster/api/route';
import { type Membership, spareOf } from '@sepia/cluster/membership';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Hints } from '../blobs/hints.ts';
import type { Members } from '../cluster/members.ts';
import { shardOf } from '../records/core/record-shard.ts';
import type { Tags } from '../records/tags.ts';
import type { CopiesOwed } from '../recovery/copies-owed.ts';
import type { SyncPull } from '../recovery/sync-pull.ts';

/** Registers that are settled at once. */
const AT_ONCE = 8;
const LOOK_EVERY_MS = 200;
/** Blobs that are asked for again while they do not come, in ms. */
const ASK_EVERY_MS = 5_000;

interface MoveDeps {
  readonly members: Members;
  readonly records: RecordStore;
  readonly pull: SyncPull;
  readonly tags: Pick<Tags, 'settle'>;
  readonly index: BlobIndex;
  readonly hints: Hints;
  readonly copies: Pick<CopiesOwed, 'add'>;
  readonly log: Logger;
}

/**
 * This origin's part of a ring change. Runs after the change's epoch is durable here, and asks only others where it is:
 * what was acknowledged before is then with them, what comes later goes to old and new owners. Idempotent: after a
 * restart it begins anew. ADR 0024.
 *
 * ```
 * pull      what the old owners have and this one will own: sets, registers, pushed blobs
 * settle    a real round for each register that this origin is the first old owner of, or whose first one is away
 * blobs     until nothing is wanted any more, and nothing is owed to new owners
 * ```
 */
export class Move {
  readonly #deps: MoveDeps;
  #step = '';
  #share = 0;
  #registers = 0;
  /** Of this epoch all registers that this origin leads were settled. */
  #ledEpoch = -1;
  #doneEpoch = -1;

  constructor(deps: MoveDeps) {
    this.#deps = deps;
  }

  get registers(): number {
    return this.#registers;
  }

  get share(): number {
    return this.#share;
  }

  get doing(): string {
    return this.#step;
  }

  /** The last epoch of which all registers were settled that this origin leads. */
  get hasLed(): number {
    return this.#ledEpoch;
  }

  isDone(epoch: number): boolean {
    return this.#doneEpoch >= epoch;
  }

  /** @throws what stood in the way; it is tried again then */
  async run(membership: Membership, signal: AbortSignal): Promise<void> {
    const { epoch, before = [], origins } = membership;
    if (this.isDone(epoch)) return;
    this.#share = 0;
    this.#registers = 0;
    const away = await this.#pullAll(membership, signal);
    this.#share = 0.4;
    await this.#settleOwn(signal);
    this.#ledEpoch = epoch;
    this.#share = 0.6;
    await this.#settleOthers(membership, away, signal);
    this.#share = 0.8;
    await this.#oweStrays(signal);
    const isNew = new Set(origins.filter(({ state }) => state !== 'draining').map(({ id }) => id));
    await this.#untilCopied(isNew, signal);
    this.#share = 1;
    this.#step = '';
    this.#doneEpoch = epoch;
    this.#deps.log.info(
      { epoch, registers: this.#registers, before: before.length },
      'part of a ring change done',
    );
  }

  /** Ids of old owners that could not be asked: so few that each key's majority was. */
  async #pullAll({ epoch, before = [] }: Membership, signal: AbortSignal): Promise<Set<string>> {
    const { members, pull, tags, log } = this.#deps;
    const owning = before.filter(({ state }) => state !== 'draining').map(({ id }) => id);
    const away = new Set<string>();
    for (const id of owning) {
      if (id === members.selfId) continue;
      this.#step = `takes over from ${id}`;
      try {
        const status = await this.#statusOf(id, signal);
        if (status.epoch < epoch || !status.isSettled)
          throw new CodedError('RECORDS_PENDING', { detail: { origin: id } });
        const buckets = await pull.differing(id, signal);
        const { unsettled, records, blobs } = await pull.pull(id, 'repair', buckets, signal);
        for (const key of unsettled) await tags.settle(key, () => members.shard(shardOf('r1', key) ?? key));
        log.debug({ id, epoch, records, blobs }, 'taken over in a ring change');
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        away.add(id);
        if (away.size > spareOf(before)) throw error;
      }
    }
    return away;
  }

  async #settleOwn(signal: AbortSignal): Promise<void> {
    const { selfId } = this.#deps.members;
    this.#step = 'settles its registers';
    await this.#settleWhere((old) => old[0] === selfId, signal);
  }

  /** Waits until the first old owner of each register settled it, or does it in its place. */
  async #settleOthers(
    { epoch, before = [] }: Membership,
    away: Set<string>,
    signal: AbortSignal,
  ): Promise<void> {
    const { members } = this.#deps;
    for (const { id, state } of before) {
      if (id === members.selfId || state === 'draining') continue;
      this.#step = `waits for the registers of ${id}`;
      while (!away.has(id)) {
        signal.throwIfAborted();
        try {
          if ((await this.#statusOf(id, signal)).hasLed >= epoch) break;
        } catch (error) {
          throwIfBug(error);
          signal.throwIfAborted();
          away.add(id);
        }
        if (!away.has(id)) await delay(LOOK_EVERY_MS, signal);
      }
      if (!away.has(id)) continue;
      this.#step = `settles registers for ${id}, which is away`;
      await this.#settleWhere((old) => old[0] === id && old.includes(members.selfId), signal);
    }
  }

  async #settleWhere(isMeant: (old: readonly string[]) => boolean, signal: AbortSignal): Promise<void> {
    const { members, records, tags } = this.#deps;
    const running = new Set<Promise<void>>();
    for await (const key of records.registers.keys()) {
      signal.throwIfAborted();
      const name = shardOf('r1', key);
      if (name === undefined) continue;
      const { sets } = members.shard(name);
      if (sets.length < 2 || !isMeant(sets[0]!)) continue;
      const one = tags
        .settle(key, () => members.shard(name))
        .then(() => {
          this.#registers += 1;
          running.delete(one);
        });
      running.add(one);
      if (running.size >= AT_ONCE) await Promise.race(running);
    }
    await Promise.all(running);
  }

  /** Pushed blobs that this origin keeps for others go to their owners, the new ones too. */
  async #oweStrays(signal: AbortSignal): Promise<void> {
    const { members, records, copies } = this.#deps;
    this.#step = 'hands over what it kept for others';
    for await (const { key } of records.blobSet.list([])) {
      signal.throwIfAborted();
      const digest = key[0]!;
      const owners = members.shard(digest).sets.flat();
      if (owners.includes(members.selfId)) continue;
      for (const id of new Set(owners)) await copies.add(id, [digest]);
    }
  }

  async #untilCopied(isNew: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const { index, hints, pull } = this.#deps;
    const began = performance.now();
    for (let askedMs = began; ; ) {
      const owed = (await hints.all()).filter(({ target }) => isNew.has(target)).length;
      if (index.wanted === 0 && owed === 0) return;
      this.#step = `${index.wanted} blobs to get, ${owed} to send`;
      if (performance.now() - askedMs > ASK_EVERY_MS) {
        await pull.askAgain(signal);
        askedMs = performance.now();
      }
      await delay(LOOK_EVERY_MS, signal);
    }
  }

  async #statusOf(id: string, signal: AbortSignal): Promise<RingStatus> {
    return await this.#deps.members.json<RingStatus>(id, { ...to(ORIGIN_RING.status), signal });
  }
}
