import { type Digest, isDigest } from '@sepia/base/digest';
import { linkKey } from '@sepia/base/names/blob-name';
import { INDEX_HOME } from '@sepia/cluster/api/layer-binding';
import { settledValue } from '@sepia/records/register/envelope';
import type { Ballot } from '@sepia/records/register/register';
import { type RecordStore, tagKey } from '@sepia/records/store/record-store';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Swarms } from '../blobs/swarms.ts';
import { type Fence, MAX_CONDEMNED } from '../fence/core/fence.ts';
import type { OwnPage } from '../records/core/record-merge.ts';
import type { TagState } from '../records/core/tag-record.ts';
import type { ShardName } from '../records/own-records.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { GcRemoved } from './core/sweep.ts';

/** Records of one page. */
export const GC_PAGE = 2_000;
/** Begins the register of a layer; its digest follows. */
const LAYERS = 'layer\0';
/** Blobs that are looked at for one page of candidates. */
const MAX_LOOKED_AT = 10_000;

/** A link or an entry under a subject as this origin has it; without value a tombstone. */
export interface OwnRecord {
  readonly key: readonly string[];
  readonly atMs: number;
  readonly value?: unknown;
  readonly fieldMs?: Readonly<Record<string, number>>;
  readonly deadMs?: number;
}

/** A tag as this origin's acceptor has it. */
export interface OwnTag {
  readonly tag: string;
  readonly ballot: Ballot;
  /** Left out where only the ballot was asked for. */
  readonly state?: TagState;
}

/** The index of a layer, a blob of the repository that is named; none: the layer has none. */
export interface OwnLayerIndex {
  readonly layer: string;
  readonly upstream?: string;
  readonly repository?: string;
  readonly index?: Digest;
}

/** Digests of pushed blobs; `next`: go on after it. */
export interface CandidatePage {
  readonly digests: readonly Digest[];
  readonly next?: Digest;
}

interface OwnContentDeps {
  readonly records: RecordStore;
  /** All that is said here counts, or is not said: `RECORDS_PENDING`. */
  readonly standing: Pick<OwnStanding, 'requireAll'>;
  /** This origin keeps the records of that repository. */
  readonly owns: (upstream: string, repository: string) => boolean;
  readonly store: BlobStore;
  readonly swarms: Pick<Swarms, 'forget'>;
  readonly fence: Fence;
  readonly nowMs: () => number;
  /** Monotonic, in ms. */
  readonly elapsedMs: () => number;
}

/** What this origin alone holds, for the sweep of a garbage collection that some origin leads. */
export class OwnContent {
  readonly #deps: OwnContentDeps;

  constructor(deps: OwnContentDeps) {
    this.#deps = deps;
  }

  /** Repositories on record here, also those that are empty by now, behind `after`. */
  async repositories(upstream: string, after: string | undefined): Promise<OwnPage<string>> {
    this.#deps.standing.requireAll();
    const entries: string[] = [];
    const page = after === undefined ? {} : { after };
    for await (const { key } of this.#deps.records.repositorySet.list([upstream], page)) {
      if (entries.length >= GC_PAGE) return { entries, more: true };
      entries.push(key[1]!);
    }
    return { entries, more: false };
  }

  /** Links or entries under subjects with their clocks, tombstones too, behind the key `after`. */
  async records(
    { upstream, repository }: ShardName,
    kind: 'links' | 'referrers',
    after: readonly string[],
  ): Promise<OwnPage<OwnRecord>> {
    this.#deps.standing.requireAll();
    const { linkSet, referrerSet } = this.#deps.records;
    const set = kind === 'links' ? linkSet : referrerSet;
    const entries: OwnRecord[] = [];
    const from = after.length === 0 ? undefined : after.join('\0');
    for await (const { key, value, ...clocks } of set.entries([upstream, repository], from)) {
      if (entries.length >= GC_PAGE) return { entries, more: true };
      entries.push({ key: key.slice(2), ...clocks, ...(value === undefined ? {} : { value }) });
    }
    return { entries, more: false };
  }

  /** Tags behind `after`, also those that were taken away. */
  async tags(
    { upstream, repository }: ShardName,
    after: string | undefined,
    brief: boolean,
  ): Promise<OwnPage<OwnTag>> {
    this.#deps.standing.requireAll();
    const { registers } = this.#deps.records;
    const prefix = tagKey(upstream, repository, '');
    const entries: OwnTag[] = [];
    const limit = brief ? GC_PAGE : GC_PAGE / 10;
    for await (const key of registers.keys(prefix, after)) {
      if (entries.length >= limit) return { entries, more: true };
      const { accepted, value } = await registers.state(key);
      const state = brief ? undefined : settledValue<TagState>(key, value);
      const tag = key.slice(prefix.length);
      entries.push({ tag, ballot: accepted, ...(state === undefined ? {} : { state }) });
    }
    return { entries, more: false };
  }

  /** Indexes of layers that are on record here, behind the layer `after`: nothing in their repository names them. */
  async layerIndexes(after: string | undefined): Promise<OwnPage<OwnLayerIndex>> {
    this.#deps.standing.requireAll();
    const { registers } = this.#deps.records;
    const entries: OwnLayerIndex[] = [];
    for await (const key of registers.keys(LAYERS, after)) {
      if (entries.length >= GC_PAGE) return { entries, more: true };
      const { value } = await registers.state(key);
      const found = INDEX_HOME.safeParse(settledValue<unknown>(key, value));
      const layer = key.slice(LAYERS.length);
      if (!found.success) entries.push({ layer });
      else entries.push({ layer, ...found.data.home, index: found.data.index });
    }
    return { entries, more: false };
  }

  /**
   * Which of these are linked by any repository of any upstream that this origin owns. What it owned before a ring
   * change says nothing any more: the owners are asked as well.
   */
  async linked(digests: readonly Digest[]): Promise<Digest[]> {
    this.#deps.standing.requireAll();
    const wanted = new Set<string>(digests);
    const found = new Set<Digest>();
    for await (const { key } of this.#deps.records.linkSet.list([])) {
      const [upstream = '', repository = '', digest = ''] = key;
      if (wanted.has(digest) && this.#deps.owns(upstream, repository)) found.add(digest as Digest);
    }
    return [...found];
  }

  /** Leaves tombstones at the clocks of records that the sweep may remove here at this moment. */
  async bury(
    generation: string,
    shard: ShardName,
    dead: {
      readonly links: readonly { readonly digest: Digest; readonly atMs: number }[];
      readonly referrers: readonly {
        readonly subject: Digest;
        readonly digest: Digest;
        readonly atMs: number;
      }[];
    },
    into: Readonly<Record<'links' | 'referrers', (dead: readonly OwnRecord[]) => Promise<void>>>,
  ): Promise<void> {
    const { fence, elapsedMs } = this.#deps;
    const { upstream, repository } = shard;
    const may = ({ digest }: { readonly digest: Digest }): boolean =>
      fence.mayRemove(generation, linkKey({ upstream, repository, digest }), elapsedMs());
    await into.links(dead.links.filter(may).map(({ digest, atMs }) => ({ key: [digest], atMs })));
    await into.referrers(
      dead.referrers.map(({ subject, digest, atMs }) => ({ key: [subject, digest], atMs })),
    );
  }

  /** Pushed blobs that nobody wrote or read for `graceMs`, behind `after`. */
  async candidates(after: Digest | undefined, graceMs: number): Promise<CandidatePage> {
    const { store, nowMs } = this.#deps;
    const digests: Digest[] = [];
    let seen = 0;
    for await (const { digest, accessedMs } of store.list(after)) {
      seen += 1;
      if (nowMs() - accessedMs >= graceMs && (await store.stat(digest))?.attrs.class === 'pushed')
        digests.push(digest);
      if (seen >= MAX_LOOKED_AT || digests.length >= MAX_CONDEMNED / 2) return { digests, next: digest };
    }
    return { digests };
  }

  /** Takes bytes off the disk that the sweep may remove at this moment; cached copies `withCached`. */
  async remove(generation: string, digests: readonly Digest[], withCached: boolean): Promise<GcRemoved> {
    const { store, fence, elapsedMs, swarms } = this.#deps;
    const kept: Digest[] = [];
    let [blobs, bytes] = [0, 0];
    for (const digest of digests) {
      const stays = (): boolean => !fence.mayRemove(generation, digest, elapsedMs());
      const stat = await store.stat(digest);
      if (stat !== undefined && (withCached || stat.attrs.class === 'pushed')) {
        const freed = stays() ? 0 : await store.deleteUnless(digest, stays);
        if (!(await store.has(digest))) {
          swarms.forget(digest);
          blobs += 1;
          bytes += freed;
        }
      }
      if (stays()) kept.push(digest);
    }
    return { blobs, bytes, kept };
  }
}

/** Digests that a tag points at, or may be rolled back to: of one that was taken away only for the grace. */
export function rootsOf(state: TagState | undefined, nowMs: number, graceMs: number): Digest[] {
  if (state === undefined) return [];
  const history = state.history ?? [];
  const movedMs = history.at(-1)?.atMs ?? state.checkedAtMs;
  if (state.digest === undefined && nowMs - movedMs >= graceMs) return [];
  const digests = [state.digest, ...history.map((move) => move.digest)];
  return digests.filter((digest): digest is Digest => digest !== undefined && isDigest(digest));
}
