import type { Digest } from '@sepia/base/digest';
import { MAX_CONDEMNED } from '../../fence/core/fence.ts';
import {
  type GcLink,
  type GcNames,
  type GcReferrer,
  type MarkRules,
  RepositoryMark,
  type RepositoryView,
} from './mark.ts';

/** What a sweep asks of the members; every question needs the answer of every member concerned, else the sweep ends. */
export type GcAsk =
  /** All that the repository has on record, from all of its owners. Answer: {@link RepositoryView}. */
  | { readonly type: 'view' }
  /** What manifests name. Answer: a map of {@link GcRead}; one that cannot be read is left out. */
  | { readonly type: 'read'; readonly digests: readonly Digest[] }
  /** Puts links or bytes behind the fence of every member. Answer: a set of those that are in use somewhere. */
  | { readonly type: 'condemn'; readonly of: 'links' | 'bytes'; readonly digests: readonly Digest[] }
  /** Leaves tombstones at the very clock of each record, so that one which was written since stays. No answer. */
  | { readonly type: 'bury'; readonly links: readonly GcLink[]; readonly referrers: readonly GcReferrer[] }
  /** Which of these some repository links. Answer: a set. */
  | { readonly type: 'linked'; readonly digests: readonly Digest[] }
  /**
   * Takes bytes off every member where they are still condemned; `withCached`: also copies that could be fetched again.
   * Answer: {@link GcRemoved}.
   */
  | { readonly type: 'remove'; readonly digests: readonly Digest[]; readonly withCached: boolean }
  /** Takes blobs out of the backend that is swept. Answer: {@link GcWithdrawn}. */
  | { readonly type: 'withdraw'; readonly digests: readonly Digest[] }
  | { readonly type: 'release' };

/** What a manifest names, or that there is none of that digest. */
export type GcRead = GcNames | 'no-manifest';

/** What a sweep took off disks; bytes and files count once for each member that had them. */
export interface GcRemoved {
  readonly blobs: number;
  readonly bytes: number;
  /** What some member did not let go: it was used or written there since it was condemned. */
  readonly kept: readonly Digest[];
}

/** What a sweep took out of a backend, of what it condemned. */
export interface GcWithdrawn {
  readonly digests: readonly Digest[];
  /** It is not known of all whether they are there: the fences must stand until they lift themselves. */
  readonly isUnclear: boolean;
}

export interface SweepRules extends MarkRules {
  /** Say what would go, and take nothing. */
  readonly dryRun: boolean;
  /** Links of one repository that are condemned at once; default: as many as a fence takes. */
  readonly atOnce?: number;
}

/** What a sweep did to the links of one repository. */
export interface RepositorySwept {
  readonly links: number;
  /** What these links counted against the repository's quota. */
  readonly bytes: number;
  /** Links that stand. */
  readonly kept: number;
  /** There was more than one sweep takes: sweep the repository again. */
  readonly more: boolean;
  /** Why nothing was taken though something is unreferenced; the next sweep tries again. */
  readonly left?: string;
  readonly digests: readonly Digest[];
}

const NONE: GcRemoved = { blobs: 0, bytes: 0, kept: [] };

interface Marked {
  readonly view: RepositoryView;
  readonly links: readonly GcLink[];
  readonly referrers: readonly GcReferrer[];
}

/**
 * Sweeps the links of one repository: mark, condemn what is dead, mark again behind the fence, bury what is dead both
 * times. A generator of questions, pure: the caller carries them out and hands the answers in.
 */
export function* sweepRepository(rules: SweepRules): Generator<GcAsk, RepositorySwept, unknown> {
  const first = yield* marked(rules);
  if (typeof first === 'string') return left(0, first);
  const atOnce = rules.atOnce ?? MAX_CONDEMNED;
  const batch = first.links.slice(0, atOnce);
  const more = batch.length < first.links.length;
  if (rules.dryRun) return swept(first.links, first.view.links.size - first.links.length, false);
  if (batch.length === 0 && first.referrers.length === 0) return swept([], first.view.links.size, false);
  const condemned = new Set(batch.map(({ digest }) => digest));
  const busy = yield* ask<ReadonlySet<Digest>>({ type: 'condemn', of: 'links', digests: [...condemned] });
  const second = yield* marked(rules);
  const agreed = typeof second === 'string' ? second : (fault(first, second, batch, busy) ?? second);
  if (typeof agreed === 'string') {
    yield { type: 'release' };
    return left(first.view.links.size, agreed);
  }
  const still = new Map(agreed.links.map((link) => [link.digest, link.atMs]));
  const buried = batch.filter(({ digest, atMs }) => !busy.has(digest) && still.get(digest) === atMs);
  const gone = new Set(buried.map(({ digest }) => digest));
  const referrers = agreed.referrers.filter(
    ({ digest }) => gone.has(digest) || !agreed.view.links.has(digest),
  );
  yield { type: 'bury', links: buried, referrers };
  yield { type: 'release' };
  return swept(buried, agreed.view.links.size - buried.length, more && buried.length > 0);
}

/**
 * Sweeps bytes that no repository links: asks, puts the rest behind the fence of every member, asks again, removes.
 * `candidates`: digests that some member holds for longer than the grace, at most as many as a fence takes.
 */
export function* sweepBytes(
  candidates: readonly Digest[],
  rules: { readonly dryRun: boolean },
): Generator<GcAsk, { readonly digests: readonly Digest[]; readonly removed: GcRemoved }, unknown> {
  const unlinked = without(
    candidates,
    yield* ask<ReadonlySet<Digest>>({ type: 'linked', digests: candidates }),
  );
  if (rules.dryRun || unlinked.length === 0) return { digests: unlinked, removed: NONE };
  const digests = yield* condemned(unlinked);
  const removed =
    digests.length === 0 ? NONE : yield* ask<GcRemoved>({ type: 'remove', digests, withCached: false });
  yield { type: 'release' };
  return { digests, removed };
}

/**
 * Sweeps what a backend holds and no repository links: as {@link sweepBytes}, and what every member let go is taken out
 * of the backend. Members first: a sweep that is killed in between leaves what the next one finds in the backend.
 * `candidates`: as there, of what the backend lists.
 */
export function* sweepBackend(
  candidates: readonly Digest[],
  rules: { readonly dryRun: boolean },
): Generator<
  GcAsk,
  { readonly digests: readonly Digest[]; readonly removed: GcRemoved; readonly withdrawn: GcWithdrawn },
  unknown
> {
  const unlinked = without(
    candidates,
    yield* ask<ReadonlySet<Digest>>({ type: 'linked', digests: candidates }),
  );
  const nothing: GcWithdrawn = { digests: [], isUnclear: false };
  if (rules.dryRun || unlinked.length === 0) return { digests: unlinked, removed: NONE, withdrawn: nothing };
  const digests = yield* condemned(unlinked);
  if (digests.length === 0) {
    yield { type: 'release' };
    return { digests, removed: NONE, withdrawn: nothing };
  }
  const removed = yield* ask<GcRemoved>({ type: 'remove', digests, withCached: true });
  const free = without(digests, new Set(removed.kept));
  const withdrawn = yield* ask<GcWithdrawn>({ type: 'withdraw', digests: free });
  if (!withdrawn.isUnclear) yield { type: 'release' };
  return { digests, removed, withdrawn };
}

/** Puts bytes without link behind the fence of every member; those that may go are not in use, and not linked since. */
function* condemned(unlinked: readonly Digest[]): Generator<GcAsk, readonly Digest[], unknown> {
  const busy = yield* ask<ReadonlySet<Digest>>({ type: 'condemn', of: 'bytes', digests: unlinked });
  const free = without(unlinked, busy);
  return without(free, yield* ask<ReadonlySet<Digest>>({ type: 'linked', digests: free }));
}

/** Why nothing of the batch may go: it could part something from what names it. */
function fault(
  first: Marked,
  second: Marked,
  batch: readonly GcLink[],
  busy: ReadonlySet<Digest>,
): string | undefined {
  const used = batch.find(({ digest, isManifest }) => isManifest && busy.has(digest));
  if (used !== undefined) return `manifest ${used.digest} is being used`;
  const known = new Set(first.links.map(({ digest }) => digest));
  const fresh = second.links.find(({ digest, isManifest }) => isManifest && !known.has(digest));
  return fresh === undefined ? undefined : `manifest ${fresh.digest} lost its last reference meanwhile`;
}

/** The repository with what is dead in it; or why that is not known. */
function* marked(rules: MarkRules): Generator<GcAsk, Marked | string, unknown> {
  const view = yield* ask<RepositoryView>({ type: 'view' });
  const mark = new RepositoryMark(view, rules);
  for (let digests = mark.wanted(); digests.length > 0; digests = mark.wanted()) {
    const names = yield* ask<ReadonlyMap<Digest, GcRead>>({ type: 'read', digests });
    for (const digest of digests) {
      const found = names.get(digest);
      if (found === 'no-manifest' && mark.isDoubtful(digest)) continue;
      if (found === undefined || found === 'no-manifest')
        return `manifest ${digest} is referenced and cannot be read`;
      mark.learn(found);
    }
  }
  return { view, links: mark.deadLinks(), referrers: mark.deadReferrers() };
}

/** Puts a question and takes its answer, whose type the question says. */
function* ask<T>(question: GcAsk): Generator<GcAsk, T, unknown> {
  return (yield question) as T;
}

function without(digests: readonly Digest[], these: ReadonlySet<Digest>): Digest[] {
  return digests.filter((digest) => !these.has(digest));
}

function swept(links: readonly GcLink[], kept: number, more: boolean): RepositorySwept {
  const bytes = links.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return { links: links.length, bytes, kept, more, digests: links.map(({ digest }) => digest) };
}

function left(kept: number, why: string): RepositorySwept {
  return { links: 0, bytes: 0, kept, more: false, left: why, digests: [] };
}
