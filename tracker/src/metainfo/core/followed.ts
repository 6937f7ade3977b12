import type { BlobName } from '@sepia/base/names/blob-name';
import type { Revocation } from '@sepia/cluster/api/revocation';
import { LinkLedger, type LookUp } from '@sepia/cluster/core/link-ledger';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { HASH_BYTES } from '@sepia/metainfo/tree';
import { ORPHAN_MS, RANGES_IDLE_MS } from '../../deadlines.ts';
import { newsGapMs } from '../../swarms/core/pace.ts';

const MAX_LINKS = 100_000;
/** Cost of a blob beside its hashes, in bytes. A round guess. */
const ENTRY_BYTES = 512;

/** What origins told of a blob, and which of them hold it or fetch it now. */
export interface Located {
  readonly metainfo: Metainfo;
  readonly originIds: readonly string[];
}

/** A blob that is followed. `open → final`, or given up; then it is located anew. */
export interface Entry extends Located {
  readonly metainfo: Metainfo;
  readonly originIds: readonly string[];
  /** Somebody wants the whole blob; else only what is read is fetched. */
  readonly wantsAll: boolean;
  /** Somebody polls its leader: it is not let go of. */
  readonly isFollowed: boolean;
  /** Why it was given up. */
  readonly failed: unknown;
}

interface State {
  metainfo: Metainfo;
  originIds: readonly string[];
  wantsAll: boolean;
  isFollowed: boolean;
  failed: unknown;
  askedMs: number;
  waiting: number;
  /** Since when no leader answers. */
  orphanSinceMs: number | undefined;
}

interface FollowedOptions {
  readonly budgetBytes: number;
  /** How long a link of an upstream is believed, in ms. */
  readonly beliefMs: (upstream: string) => number;
}

/**
 * Metainfo by digest and upstream, as a tracker knows it: what may be answered from memory, who is to be asked else, how
 * long an open blob is followed, least recently used out first. What one upstream has sent so far is not told under
 * another: an open blob of theirs may never come to its end. Pure: time is passed in, who asks origins is the keeper.
 */
export class Followed {
  readonly #budgetBytes: number;
  readonly #states = new Map<string, State>();
  /** What all of them cost. */
  #bytes = 0;
  readonly #links: LinkLedger<true>;

  constructor(options: FollowedOptions) {
    this.#budgetBytes = options.budgetBytes;
    this.#links = new LinkLedger({ beliefMs: options.beliefMs, limit: MAX_LINKS });
  }

  /** All that is known, longest unused first. */
  values(): Iterable<Entry> {
    return this.#states.values();
  }

  /** What may be answered without asking anybody: its link is believed and it was not given up. */
  believed(name: BlobName, nowMs: number): Entry | undefined {
    const known = this.#sound(name);
    if (known === undefined || this.#links.get(name, nowMs) === undefined) return undefined;
    this.#touch(name, known);
    return known;
  }

  /** True once for each look-up: its link is still believed, and is to be looked up again while nobody has to wait for it. */
  isDue(name: BlobName, nowMs: number): boolean {
    return this.#links.isDue(name, nowMs);
  }

  /** What is known, whether its link is believed or not; undefined once it was given up. */
  known(name: BlobName): Entry | undefined {
    return this.#sound(name);
  }

  /** With no origin left, what was once proven still lets a running swarm finish (docs/operations.md). */
  withoutOrigins(name: BlobName): Entry | undefined {
    return this.#links.isKnown(name) ? this.#sound(name) : undefined;
  }

  /**
   * Who may be asked alone whether a link that was proven before is still there: the first of those that were found to hold
   * the whole blob, if it is one of those that could. Undefined: what is not whole, given up or revoked is looked for at all.
   */
  voucher(name: BlobName, candidateIds: readonly string[]): string | undefined {
    const state = this.#sound(name);
    if (state?.metainfo.state !== 'final' || !this.#links.isKnown(name)) return undefined;
    return state.originIds.find((id) => candidateIds.includes(id));
  }

  /** Before origins are asked for it. */
  lookUp(nowMs: number): LookUp {
    return this.#links.begin(nowMs);
  }

  /**
   * Origins told of it: goes on with what is known, or begins anew where that was given up. Its link is believed from the
   * look-up on. `mustFollow`: it is open and nobody follows it, so the caller does from now on. `isContested`: see
   * {@link learned}.
   */
  found(
    name: BlobName,
    located: Located,
    lookUp: LookUp,
    { wantsAll, nowMs }: { readonly wantsAll: boolean; readonly nowMs: number },
  ): { readonly entry: Entry; readonly mustFollow: boolean; readonly isContested: boolean } {
    let state = this.#sound(name);
    let isContested = false;
    if (state === undefined) {
      const fresh = { isFollowed: false, failed: undefined, waiting: 0, orphanSinceMs: undefined };
      state = { ...located, ...fresh, wantsAll, askedMs: nowMs };
    } else isContested = this.learned(state, located) === 'contested';
    this.#touch(name, state);
    this.#links.note(name, true, lookUp);
    const mustFollow = state.metainfo.state === 'open' && !state.isFollowed;
    if (mustFollow) state.isFollowed = true;
    this.#trim();
    return { entry: state, mustFollow, isContested };
  }

  /** Its leader, or another, told of it. `contested`: origins vouch for different bytes of one blob; nothing is taken over. */
  learned(entry: Entry, { metainfo, originIds }: Located): 'merged' | 'replaced' | 'contested' {
    const state = entry as State;
    const outcome = state.metainfo.merge(metainfo);
    if (outcome === 'replaced') state.metainfo = metainfo;
    state.originIds = originIds;
    return outcome;
  }

  /** Somebody asked for it. Returns the leader that must hear that the whole blob is wanted, if there is one. */
  asked(entry: Entry, wantsAll: boolean, nowMs: number): string | undefined {
    const state = entry as State;
    state.askedMs = nowMs;
    if (!wantsAll || state.wantsAll) return undefined;
    state.wantsAll = true;
    return state.metainfo.state === 'open' ? state.originIds[0] : undefined;
  }

  /** One more waits for news of it; call what is returned once when that is over. */
  wait(entry: Entry): () => void {
    const state = entry as State;
    state.waiting += 1;
    return () => {
      state.waiting -= 1;
    };
  }

  /** How long after they were asked for its news are told, ms. Its end, and what is read of a blob that is not fetched whole, is told at once. */
  newsGapMs(entry: Entry): number {
    const state = entry as State;
    const isUrgent = !state.wantsAll || state.metainfo.state === 'final' || state.failed !== undefined;
    return isUrgent ? 0 : newsGapMs(state.waiting);
  }

  /** What who follows it does next. `leave`: it is whole, or ranges of it were read and nobody asks any more; then it is forgotten. */
  next(name: BlobName, entry: Entry, nowMs: number): 'poll' | 'leave' {
    const state = entry as State;
    const isWhole = state.metainfo.state === 'final';
    const isLeft = !state.wantsAll && state.waiting === 0 && nowMs - state.askedMs > RANGES_IDLE_MS;
    if (!isWhole && !isLeft) return 'poll';
    state.isFollowed = false;
    if (!isWhole) this.#drop(keyOf(name));
    return 'leave';
  }

  /** Notes that the leader of a blob answered. */
  answered(entry: Entry): void {
    (entry as State).orphanSinceMs = undefined;
  }

  /**
   * Its leader does not answer, or (`isCertain`) says what another would say as well: the next is looked for, until there
   * was none for too long or the answer was certain once more.
   */
  unanswered(entry: Entry, isCertain: boolean, nowMs: number): 'next-leader' | 'give-up' {
    const state = entry as State;
    if (isCertain && state.orphanSinceMs !== undefined) return 'give-up';
    state.orphanSinceMs ??= nowMs;
    return nowMs - state.orphanSinceMs > ORPHAN_MS ? 'give-up' : 'next-leader';
  }

  /** Nobody goes on with it: who waits for it is told why, who asks later has it located anew. */
  giveUp(entry: Entry, error: unknown): void {
    const state = entry as State;
    state.failed = error;
    state.isFollowed = false;
  }

  /** Origins said that the link is not there: with none of them left it is not told of either. */
  denied(name: BlobName): void {
    this.#links.deny(name);
  }

  /** Links that are no more: the next that asks by one of them is answered by the origins. */
  revoke(revoked: readonly Revocation[]): void {
    this.#links.revoke(revoked);
  }

  #sound(name: BlobName): State | undefined {
    const state = this.#states.get(keyOf(name));
    return state?.failed === undefined ? state : undefined;
  }

  #touch(name: BlobName, state: State): void {
    const key = keyOf(name);
    this.#drop(key);
    this.#states.set(key, state);
    this.#bytes += sizeOf(state);
  }

  #drop(key: string): void {
    const state = this.#states.get(key);
    if (state === undefined) return;
    this.#states.delete(key);
    // What it costs does not change while it is known: the size of a blob is fixed.
    this.#bytes -= sizeOf(state);
  }

  /** Takes no longer the more blobs are known, but for those that are followed or waited for. */
  #trim(): void {
    if (this.#bytes <= this.#budgetBytes) return;
    for (const [key, state] of this.#states) {
      if (state.isFollowed || state.waiting > 0) continue;
      this.#drop(key);
      if (this.#bytes <= this.#budgetBytes) return;
    }
  }
}

/** What a blob costs of the budget, in bytes. */
export function sizeOf({ metainfo }: Located): number {
  return ENTRY_BYTES + metainfo.pieceCount * HASH_BYTES;
}

function keyOf({ digest, upstream }: BlobName): string {
  return `${digest}\n${upstream}`;
}
