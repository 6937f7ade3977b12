import { askAll, withoutAnswer } from '@sepia/base/async/ask-many';
import { backoffMs } from '@sepia/base/async/backoff';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_RING, type RingStatus } from '@sepia/cluster/api/ring';
import { to } from '@sepia/cluster/api/route';
import type { Member } from '@sepia/cluster/document';
import { type Membership, spareOf } from '@sepia/cluster/membership';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Hints } from '../blobs/hints.ts';
import type { Members } from '../cluster/members.ts';
import { FIRST_LOOK_MS, MAX_LOOK_MS, MOVE_ASK_AGAIN_MS } from '../deadlines/members.ts';
import { shardOf } from '../records/core/record-shard.ts';
import type { Tags } from '../records/tags.ts';
import type { CopiesOwed } from '../recovery/copies-owed.ts';
import type { SyncPull } from '../recovery/sync-pull.ts';
import type { DoneMoves } from './done-moves.ts';

/** Registers that are settled at once. */
const AT_ONCE = 8;
/** Registers that failed and are remembered; with more of them it is begun anew. */
const MAX_LEFT = 1_000;

interface MoveDeps {
  readonly members: Members;
  readonly records: RecordStore;
  readonly pull: SyncPull;
  readonly tags: Pick<Tags, 'settle'>;
  readonly index: BlobIndex;
  readonly hints: Hints;
  readonly copies: Pick<CopiesOwed, 'add'>;
  readonly moves: DoneMoves;
  readonly log: Logger;
}

/**
 * This origin's part of a ring change. Runs after the change's epoch is durable here, and asks only others where it is:
 * what was acknowledged before is then with them, what comes later goes to old and new owners. Idempotent: after a
 * restart it begins anew. ADR 0025.
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
  /** Of this change it remembers what it has done so far: it need not be done again where another step failed. */
  #epoch = -1;
  /** Old owners whose records were taken over. */
  readonly #pulled = new Set<string>();
  /** Old owners whose registers were settled here: itself, and those that are away. */
  readonly #settled = new Set<string>();
  /** Of those that are not yet, the registers that failed, by the old owner that leads them. */
  readonly #left = new Map<string, readonly string[]>();

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
    return this.#deps.moves.isDone(epoch);
  }

  /**
   * Goes on where it stopped, as long as it is the same change and the same process.
   * @throws what stood in the way; it is tried again then
   */
  async run(membership: Membership, signal: AbortSignal): Promise<void> {
    const { epoch, before = [], origins } = membership;
    if (this.isDone(epoch)) return;
    if (this.#epoch !== epoch) {
      this.#epoch = epoch;
      this.#share = 0;
      this.#registers = 0;
      this.#pulled.clear();
      this.#settled.clear();
      this.#left.clear();
    }
    const isNew = new Set(activeIds(origins));
    await this.#untilCounting(membership, signal);
    const away = await this.#pullAll(membership, signal);
    this.#share = 0.4;
    this.#step = 'settles its registers';
    await this.#settleLedBy(this.#deps.members.selfId, signal);
    this.#ledEpoch = epoch;
    this.#share = 0.6;
    await this.#settleOthers(membership, away, signal);
    this.#share = 0.8;
    await this.#oweStrays(signal);
    await this.#untilCopied(isNew, signal);
    this.#share = 1;
    this.#step = '';
    this.#deps.moves.note(epoch);
    this.#deps.log.info(
      { epoch, registers: this.#registers, before: before.length },
      'part of a ring change done',
    );
  }

  /** Waits for all new owners, and for as many old ones as rounds need: nothing can be settled before. */
  async #untilCounting({ epoch, before = [], origins }: Membership, signal: AbortSignal): Promise<void> {
    const { members } = this.#deps;
    const [old, now] = [activeIds(before), activeIds(origins)];
    for (let looks = 0; ; looks++) {
      const ids = [...new Set([...old, ...now])].filter((id) => id !== members.selfId);
      const said = await askAll(ids, async (id, over) => await this.#partOf(id, epoch, over), { signal });
      const waits = withoutAnswer(said);
      const isEnough = waits.filter((id) => old.includes(id)).length <= spareOf(before);
      if (isEnough && !waits.some((id) => now.includes(id) && !old.includes(id))) return;
      this.#step = `waits for ${waits.join(', ')}`;
      await rest(looks, signal);
    }
  }

  /** What another origin says that takes part in the change, and counts. @throws `RECORDS_PENDING` if it does not */
  async #partOf(id: string, epoch: number, signal: AbortSignal): Promise<RingStatus> {
    const status = await this.#statusOf(id, signal);
    if (status.epoch >= epoch && status.isSettled) return status;
    throw new CodedError('RECORDS_PENDING', { detail: { origin: id } });
  }

  /** Ids of old owners that could not be asked: so few that each key's majority was. */
  async #pullAll({ epoch, before = [] }: Membership, signal: AbortSignal): Promise<Set<string>> {
    const { members, pull, tags, log } = this.#deps;
    const away = new Set<string>();
    for (const id of activeIds(before)) {
      if (id === members.selfId || this.#pulled.has(id)) continue;
      this.#step = `takes over from ${id}`;
      try {
        const { generation } = await this.#partOf(id, epoch, signal);
        const buckets = await pull.differing(id, signal);
        const { unsettled, records, blobs } = await pull.pull(id, 'repair', buckets, signal);
        for (const key of unsettled) await tags.settle(key, () => members.shard(shardOf('r1', key) ?? key));
        // What was taken over counts only if it came from one folder: an empty one in its place lists nothing.
        if ((await this.#partOf(id, epoch, signal)).generation !== generation)
          throw new CodedError('RECORDS_PENDING', { detail: { origin: id } });
        this.#pulled.add(id);
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
      for (let looks = 0; !away.has(id); looks++) {
        signal.throwIfAborted();
        try {
          if ((await this.#statusOf(id, signal)).hasLed >= epoch) break;
        } catch (error) {
          throwIfBug(error);
          signal.throwIfAborted();
          away.add(id);
        }
        if (!away.has(id)) await rest(looks, signal);
      }
      if (!away.has(id)) continue;
      this.#step = `settles registers for ${id}, which is away`;
      await this.#settleLedBy(id, signal);
    }
  }

  /** Settles the registers whose first old owner is `leader`; where some fail, these alone next time. */
  async #settleLedBy(leader: string, signal: AbortSignal): Promise<void> {
    const { members, records, tags } = this.#deps;
    if (this.#settled.has(leader)) return;
    const running = new Set<Promise<void>>();
    const failed: string[] = [];
    let cause: unknown;
    for await (const key of this.#left.get(leader) ?? records.registers.keys()) {
      signal.throwIfAborted();
      const name = shardOf('r1', key);
      if (name === undefined) continue;
      const { sets } = members.shard(name);
      const [old = []] = sets;
      if (sets.length < 2 || old[0] !== leader || !old.includes(members.selfId)) continue;
      const one = tags
        .settle(key, () => members.shard(name))
        .then(
          () => {
            this.#registers += 1;
          },
          (error: unknown) => {
            throwIfBug(error);
            cause = error;
            failed.push(key);
          },
        )
        .finally(() => running.delete(one));
      running.add(one);
      if (running.size >= AT_ONCE) await Promise.race(running);
      if (failed.length >= MAX_LEFT) throw cause;
    }
    await Promise.all(running);
    if (failed.length === 0) this.#settled.add(leader);
    else {
      this.#left.set(leader, failed);
      throw cause;
    }
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
    let last = { wanted: index.wanted, atMs: performance.now() };
    // What is pushed from here on goes to old and new owners; a change does not wait for that.
    const before = new Set((await hints.all()).map(nameOf));
    for (let looks = 0; ; looks++) {
      const { wanted } = index;
      const owed = (await hints.all()).filter(
        (hint) => isNew.has(hint.target) && before.has(nameOf(hint)),
      ).length;
      if (wanted === 0 && owed === 0) return;
      this.#step = `${wanted} blobs to get, ${owed} to send`;
      if (wanted !== last.wanted) last = { wanted, atMs: performance.now() };
      else if (wanted > 0 && performance.now() - last.atMs > MOVE_ASK_AGAIN_MS) {
        await pull.askAgain(signal);
        last.atMs = performance.now();
      }
      await rest(looks, signal);
    }
  }

  async #statusOf(id: string, signal: AbortSignal): Promise<RingStatus> {
    return await this.#deps.members.json<RingStatus>(id, { ...to(ORIGIN_RING.status), signal });
  }
}

function activeIds(members: readonly Member[]): string[] {
  return members.filter(({ state }) => state !== 'draining').map(({ id }) => id);
}

function nameOf({ digest, target }: { readonly digest: string; readonly target: string }): string {
  return `${digest}\n${target}`;
}

async function rest(looks: number, signal: AbortSignal): Promise<void> {
  await delay(backoffMs(looks + 1, FIRST_LOOK_MS, MAX_LOOK_MS), signal);
}
