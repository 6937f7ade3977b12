import type { BlobBackend } from '@sepia/backend/blob-backend';
import { answersOf, askAll, withoutAnswer } from '@sepia/base/async/ask-many';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, readElsewhere, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { linkKey } from '@sepia/base/names/blob-name';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { BackendReport, GcReport, GcWish, RepositoryReport } from '@sepia/cluster/api/gc-report';
import { type Cluster, shardKey } from '@sepia/cluster/cluster';
import { isMoving } from '@sepia/cluster/membership';
import { GC_ASK_AGAIN_MS, GC_OWED_MS } from '../deadlines/members.ts';
import type { Fence } from '../fence/core/fence.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { Tags } from '../records/tags.ts';
import type { Invalidation } from '../removal/invalidation.ts';
import { BackendContent } from './backend-content.ts';
import {
  type GcAsk,
  type GcWithdrawn,
  type SweepRules,
  sweepBackend,
  sweepBytes,
  sweepRepository,
} from './core/sweep.ts';
import { layerIndexes } from './layer-indexes.ts';
import { readNames } from './manifest-names.ts';
import { type Peers, refused } from './peers.ts';
import { pagesOf, viewRepository } from './repository-view.ts';

/** Repositories that a report names; the sums count all. */
const MAX_NAMED = 1_000;
/** Digests whose last repository is remembered, for what backends lose by it. */
const MAX_LET_GO = 300_000;

export interface CollectorDeps {
  readonly cluster: Cluster;
  readonly selfId: string;
  readonly peers: Peers;
  readonly tags: Tags;
  readonly manifests: Manifests;
  /** As {@link readNames} needs it. */
  readonly bytesOf: Parameters<typeof readNames>[0]['bytesOf'];
  readonly invalidation: Pick<Invalidation, 'broadcast'>;
  /** Of upstreams of mode none, by name. */
  readonly backends: ReadonlyMap<string, BlobBackend>;
  /** Name of this cluster at backends. */
  readonly owner: string;
  readonly fence: Pick<Fence, 'mayRemove' | 'isCondemned'>;
  readonly log: Logger;
  /** The cluster's date, for what is kept. */
  readonly nowMs: () => number;
  /** For intervals. */
  readonly elapsedMs: () => number;
  readonly onSwept: (swept: {
    readonly links: number;
    readonly blobs: number;
    readonly bytes: number;
  }) => void;
  readonly onWithdrawn: (upstream: string, gone: { readonly blobs: number; readonly bytes: number }) => void;
}

interface RepositoryRules extends SweepRules {
  readonly roots: ReadonlySet<Digest> | undefined;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type Report = Writable<GcReport> & { repositories: Writable<RepositoryReport>[]; backends: BackendReport[] };

/** What the questions of a sweep are about. */
interface Scope {
  readonly shard?: { readonly upstream: string; readonly repository: RepositoryName };
  readonly rules?: RepositoryRules;
  readonly content?: BackendContent;
}

/** Leads garbage collections: asks all origins, and carries out what the sweeps in `core/` decide. One at a time. */
export class Collector {
  readonly #deps: CollectorDeps;
  readonly #stopped = new AbortController();
  #report: Report | undefined;
  #running: Promise<void> | undefined;
  #epoch = 0;
  /** Clock of the first link on record. */
  #sinceMs = Number.POSITIVE_INFINITY;
  /** From which repository a digest was taken last, in this sweep. */
  readonly #letGo = new Map<Digest, Writable<RepositoryReport>>();
  /** A backend may be deleting something still. */
  #isUnclear = false;
  #endedWellMs: number | undefined;

  constructor(deps: CollectorDeps) {
    this.#deps = deps;
  }

  /** The sweep that runs, else the last one of this process. */
  get report(): GcReport | undefined {
    return this.#report;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** When a sweep of this process that took what it found ended well, whatever the last one does. */
  get endedWellMs(): number | undefined {
    return this.#endedWellMs;
  }

  /**
   * Begins a sweep; it goes on behind. @throws `GC_REFUSED` while one runs, an origin is silent or owes copies, the
   * membership changes, or there are no records at all
   */
  async begin({ dryRun, graceMs }: GcWish): Promise<GcReport> {
    if (this.#running !== undefined) throw refused('it is being collected already');
    const { selfId, nowMs } = this.#deps;
    const startedAtMs = nowMs();
    const report: Report = {
      generation: `${startedAtMs}-${selfId}`,
      leader: selfId,
      dryRun,
      graceMs,
      startedAtMs,
      phase: 'repositories',
      seen: 0,
      links: 0,
      linkBytes: 0,
      blobs: 0,
      bytes: 0,
      unlinked: 0,
      repositories: [],
      backends: [],
    };
    this.#epoch = this.#deps.cluster.epoch;
    this.#sinceMs = Number.POSITIVE_INFINITY;
    this.#isUnclear = false;
    const run = async (): Promise<void> => {
      try {
        await this.#sweep(report);
        report.phase = 'done';
        if (!dryRun) this.#endedWellMs = nowMs();
      } catch (error) {
        report.phase = 'failed';
        report.failure = isCoded(error) ? error.message : 'internal error; see the log';
        logFailure(this.#deps.log, error, 'garbage collection ended early', { ...brief(report) });
        if (!this.#isUnclear)
          await this.#deps.peers.release(report.generation).catch((cause: unknown) => throwIfBug(cause));
      } finally {
        this.#letGo.clear();
        report.endedAtMs = nowMs();
        this.#running = undefined;
      }
    };
    const ready = this.#checkReady();
    this.#running = ready.then(async () => {
      this.#report = report;
      await run();
    });
    readElsewhere(this.#running, () => {
      this.#running = undefined;
    });
    await ready;
    return report;
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    await this.#running?.catch((error: unknown) => throwIfBug(error));
  }

  /** Every origin answers, knows the same membership, and owes nobody a copy. */
  async #checkReady(): Promise<void> {
    const { cluster, peers, elapsedMs } = this.#deps;
    const moving = cluster.members('origin').filter(({ state }) => state !== 'active');
    if (isMoving(cluster.membership)) throw refused(`the ring changes: ${cluster.membership.change}`);
    if (moving.length > 0)
      throw refused(
        `the membership changes: ${moving.map(({ id }) => id).join(', ')}; take out who is drained with "sepia ring remove"`,
      );
    for (const untilMs = elapsedMs() + GC_OWED_MS; ; ) {
      const said = await askAll(peers.ids, async (id) => ({ id, ...(await peers.ready(id)) }));
      const [silent] = withoutAnswer(said);
      if (silent !== undefined) throw refused(`${silent} does not answer`, { origin: silent });
      const answers = answersOf(said);
      const other = answers.find(({ clusterVersion }) => clusterVersion !== cluster.version);
      if (other !== undefined)
        throw refused(
          `${other.id} has version ${other.clusterVersion} of the cluster, not ${cluster.version}`,
        );
      const owing = answers.find(({ owed }) => owed > 0);
      if (owing === undefined) return;
      if (elapsedMs() > untilMs) throw refused(`${owing.id} owes ${owing.owed} copies to other origins`);
      await delay(GC_ASK_AGAIN_MS, this.#stopped.signal);
    }
  }

  /** Owners of before do not answer for those of now: a sweep ends with the membership that it began under. */
  #checkEpoch(): void {
    const { epoch } = this.#deps.cluster;
    if (epoch !== this.#epoch) throw refused(`the ring changed meanwhile (epoch ${epoch})`);
  }

  async #sweep(report: Report): Promise<void> {
    const { cluster, log, peers } = this.#deps;
    const rules: SweepRules = { nowMs: report.startedAtMs, graceMs: report.graceMs, dryRun: report.dryRun };
    const indexes = await layerIndexes(peers);
    for (const { name: upstream, mode } of cluster.upstreams) {
      if (mode !== 'none') continue;
      for (const repository of await this.#repositories(upstream)) {
        const shard = { upstream, repository: repository as RepositoryName };
        await this.#sweepRepository(report, shard, {
          ...rules,
          roots: indexes.get(shardKey(upstream, repository)),
        });
      }
    }
    const pushed = report.seen > 0 || report.dryRun ? 'unknown' : await this.#pushedBlobs();
    if (pushed === 'unlinked')
      throw refused('no origin has a repository on record; bring the records back with "sepia restore"');
    // All that was pushed is of upstreams of which nothing is collected; or records were lost, and this is what came since.
    if (pushed === 'linked') return log.info({ ...brief(report) }, 'there was no garbage to look for');
    report.phase = 'bytes';
    for (const id of peers.ids) await this.#sweepMember(report, id);
    report.phase = 'backends';
    for (const [upstream, backend] of this.#deps.backends)
      if (!this.#isUnclear) await this.#sweepBackend(report, upstream, backend);
    log.info({ ...brief(report) }, 'garbage collected');
  }

  async #sweepRepository(
    report: Report,
    shard: { readonly upstream: string; readonly repository: RepositoryName },
    rules: RepositoryRules,
  ): Promise<void> {
    const { invalidation, onSwept } = this.#deps;
    const sum: Writable<RepositoryReport> = { ...shard, links: 0, bytes: 0, kept: 0 };
    for (let more = true; more; ) {
      const done = await this.#drive(report, sweepRepository(rules), { shard, rules });
      sum.links += done.links;
      sum.bytes += done.bytes;
      sum.kept = done.kept;
      if (done.left !== undefined) sum.left = done.left;
      more = done.more;
      if (report.dryRun) continue;
      onSwept({ links: done.links, blobs: 0, bytes: 0 });
      for (const digest of done.digests)
        if (this.#letGo.size < MAX_LET_GO || this.#letGo.has(digest)) this.#letGo.set(digest, sum);
      await invalidation.broadcast(done.digests.map((digest) => ({ ...shard, digest })));
    }
    report.seen += 1;
    report.links += sum.links;
    report.linkBytes += sum.bytes;
    if (report.repositories.length < MAX_NAMED && (sum.links > 0 || sum.left !== undefined))
      report.repositories.push(sum);
  }

  async #sweepMember(report: Report, id: string): Promise<void> {
    const { peers, onSwept } = this.#deps;
    for (let after: Digest | undefined; ; ) {
      const page = await peers.candidates(id, after, report.graceMs);
      if (page.digests.length > 0) {
        const machine = sweepBytes(page.digests, { dryRun: report.dryRun });
        const { digests, removed } = await this.#drive(report, machine);
        report.unlinked += digests.length;
        report.blobs += removed.blobs;
        report.bytes += removed.bytes;
        onSwept({ links: 0, ...removed });
      }
      if (page.next === undefined) return;
      after = page.next;
    }
  }

  /** What the backend holds and nothing links; a backend that fails is left for the next sweep. */
  async #sweepBackend(report: Report, upstream: string, backend: BlobBackend): Promise<void> {
    const { owner, fence, elapsedMs, log, onWithdrawn } = this.#deps;
    const { dryRun, graceMs, startedAtMs } = report;
    const deps = { upstream, backend, owner, isDry: dryRun, fence, elapsedMs, log };
    const content = new BackendContent({ ...deps, signal: this.#stopped.signal });
    let [unlinked, blobs, bytes] = [0, 0, 0];
    for await (const batch of content.candidates(startedAtMs - graceMs, this.#sinceMs)) {
      const sizes = new Map(batch.map(({ digest, sizeBytes }) => [digest, sizeBytes]));
      const done = await this.#drive(report, sweepBackend([...sizes.keys()], { dryRun }), { content });
      unlinked += done.digests.length;
      report.blobs += done.removed.blobs;
      report.bytes += done.removed.bytes;
      let freed = 0;
      for (const digest of done.withdrawn.digests) {
        const size = sizes.get(digest) ?? 0;
        freed += size;
        const last = this.#letGo.get(digest);
        if (last !== undefined) last.backendBytes = (last.backendBytes ?? 0) + size;
      }
      blobs += done.withdrawn.digests.length;
      bytes += freed;
      onWithdrawn(upstream, { blobs: done.withdrawn.digests.length, bytes: freed });
    }
    const { older, left } = content;
    const why = left === undefined ? {} : { left };
    report.backends.push({ upstream, place: backend.place, unlinked, blobs, bytes, older, ...why });
  }

  /** Carries out the questions of a sweep; any failure ends it. */
  async #drive<R>(
    { generation }: Report,
    machine: Generator<GcAsk, R, unknown>,
    scope: Scope = {},
  ): Promise<R> {
    for (let next = machine.next(); ; ) {
      if (next.done === true) return next.value;
      this.#stopped.signal.throwIfAborted();
      this.#checkEpoch();
      next = machine.next(await this.#answer(generation, next.value, scope));
    }
  }

  async #answer(generation: string, question: GcAsk, scope: Scope): Promise<unknown> {
    const { peers } = this.#deps;
    const shard = scope.shard!;
    const rules = scope.rules!;
    switch (question.type) {
      case 'view': {
        const view = await viewRepository(this.#deps, shard, rules, rules.roots);
        this.#sinceMs = Math.min(this.#sinceMs, view.sinceMs ?? Number.POSITIVE_INFINITY);
        return view;
      }
      case 'read':
        return await readNames(this.#deps, shard, question.digests);
      case 'condemn': {
        const keyOf = (digest: Digest): string =>
          question.of === 'bytes' ? digest : linkKey({ ...shard, digest });
        const busy = await peers.condemn(generation, question.digests.map(keyOf));
        return new Set(question.digests.filter((digest) => busy.has(keyOf(digest))));
      }
      case 'bury':
        return await peers.bury(generation, shard, question);
      case 'linked':
        return await peers.linked(question.digests);
      case 'remove':
        return await peers.remove(generation, question.digests, question.withCached);
      case 'withdraw': {
        this.#isUnclear = true;
        const done: GcWithdrawn = await scope.content!.withdraw(generation, question.digests);
        this.#isUnclear = done.isUnclear;
        return done;
      }
      case 'release':
        return await peers.release(generation);
    }
  }

  /** Repositories of an upstream that any origin has on record. */
  async #repositories(upstream: string): Promise<string[]> {
    const { peers } = this.#deps;
    const found = new Set<string>();
    for (const id of peers.ids) {
      const read = async (after: string | undefined) => await peers.repositories(id, upstream, after);
      for await (const name of pagesOf(read, (one: string) => one)) found.add(name);
    }
    return [...found].sort();
  }

  /** What origins keep that was pushed, and whether a repository links any of it. */
  async #pushedBlobs(): Promise<'none' | 'linked' | 'unlinked'> {
    const { peers } = this.#deps;
    let found: 'none' | 'unlinked' = 'none';
    for (const id of peers.ids)
      for (let after: Digest | undefined; ; ) {
        const { digests, next } = await peers.candidates(id, after, 0);
        if (digests.length > 0) found = 'unlinked';
        if (digests.length > 0 && (await peers.linked(digests)).size > 0) return 'linked';
        if (next === undefined) break;
        after = next;
      }
    return found;
  }
}

function brief(report: Report): Omit<Report, 'repositories'> {
  const { repositories: _, ...rest } = report;
  return rest;
}
