import { answersOf, askAll, withoutAnswer } from '@sepia/base/async/ask-many';
import { fewAtOnce } from '@sepia/base/async/few-at-once';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, readElsewhere, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { linkKey } from '@sepia/base/names/blob-name';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { GcReport, GcWish, RepositoryReport } from '@sepia/cluster/api/gc-report';
import { type Cluster, shardKey } from '@sepia/cluster/cluster';
import { isMoving } from '@sepia/cluster/membership';
import { parseManifest } from '@sepia/oci/manifest';
import type { Manifests } from '../manifests/manifests.ts';
import type { Tags } from '../records/tags.ts';
import type { Invalidation } from '../removal/invalidation.ts';
import { type GcAsk, type SweepRules, sweepBytes, sweepRepository } from './core/sweep.ts';
import { type Peers, refused } from './peers.ts';
import { pagesOf, viewRepository } from './repository-view.ts';

/** An origin may owe copies for this long before a sweep gives up, in ms. */
const OWED_MS = 30_000;
const ASK_AGAIN_MS = 1_000;
/** Manifests that are read at once. */
const READS = 8;
/** Records of layers that are held in memory, those of all owners. */
const MAX_INDEXES = 300_000;
/** Repositories that a report names; the sums count all. */
const MAX_NAMED = 1_000;

interface CollectorDeps {
  readonly cluster: Cluster;
  readonly selfId: string;
  readonly peers: Peers;
  readonly tags: Tags;
  readonly manifests: Manifests;
  readonly invalidation: Pick<Invalidation, 'broadcast'>;
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
}

interface RepositoryRules extends SweepRules {
  readonly roots: ReadonlySet<Digest> | undefined;
}

type Report = { -readonly [K in keyof GcReport]: GcReport[K] } & { repositories: RepositoryReport[] };

/** Leads garbage collections: asks all origins, and carries out what the sweeps in `core/` decide. One at a time. */
export class Collector {
  readonly #deps: CollectorDeps;
  readonly #stopped = new AbortController();
  #report: Report | undefined;
  #running: Promise<void> | undefined;
  #epoch = 0;

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
    };
    this.#epoch = this.#deps.cluster.epoch;
    const run = async (): Promise<void> => {
      try {
        await this.#sweep(report);
        report.phase = 'done';
      } catch (error) {
        report.phase = 'failed';
        report.failure = isCoded(error) ? error.message : 'internal error; see the log';
        logFailure(this.#deps.log, error, 'garbage collection ended early', { ...brief(report) });
        await this.#deps.peers.release(report.generation).catch((cause: unknown) => throwIfBug(cause));
      } finally {
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
    for (const untilMs = elapsedMs() + OWED_MS; ; ) {
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
      await delay(ASK_AGAIN_MS, this.#stopped.signal);
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
    const indexes = await this.#layerIndexes();
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
    if (report.seen === 0 && !report.dryRun && (await this.#hasPushedBlobs()))
      throw refused('no origin has a repository on record; bring the records back with "sepia restore"');
    report.phase = 'bytes';
    for (const id of peers.ids) await this.#sweepMember(report, id);
    log.info({ ...brief(report) }, 'garbage collected');
  }

  async #sweepRepository(
    report: Report,
    shard: { readonly upstream: string; readonly repository: RepositoryName },
    rules: RepositoryRules,
  ): Promise<void> {
    const { invalidation, onSwept } = this.#deps;
    const sum = { links: 0, bytes: 0, kept: 0 };
    let why: string | undefined;
    for (let more = true; more; ) {
      const done = await this.#drive(report, sweepRepository(rules), shard, rules);
      sum.links += done.links;
      sum.bytes += done.bytes;
      sum.kept = done.kept;
      why = done.left;
      more = done.more;
      if (report.dryRun) continue;
      onSwept({ links: done.links, blobs: 0, bytes: 0 });
      await invalidation.broadcast(done.digests.map((digest) => ({ ...shard, digest })));
    }
    report.seen += 1;
    report.links += sum.links;
    report.linkBytes += sum.bytes;
    if (report.repositories.length < MAX_NAMED && (sum.links > 0 || why !== undefined))
      report.repositories.push({ ...shard, ...sum, ...(why === undefined ? {} : { left: why }) });
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

  /** Carries out the questions of a sweep; any failure ends it. */
  async #drive<R>(
    { generation }: Report,
    machine: Generator<GcAsk, R, unknown>,
    shard?: { readonly upstream: string; readonly repository: RepositoryName },
    rules?: RepositoryRules,
  ): Promise<R> {
    for (let next = machine.next(); ; ) {
      if (next.done === true) return next.value;
      this.#stopped.signal.throwIfAborted();
      this.#checkEpoch();
      next = machine.next(await this.#answer(generation, next.value, shard!, rules!));
    }
  }

  async #answer(
    generation: string,
    question: GcAsk,
    shard: { readonly upstream: string; readonly repository: RepositoryName },
    rules: RepositoryRules,
  ): Promise<unknown> {
    const { peers } = this.#deps;
    switch (question.type) {
      case 'view':
        return await viewRepository(this.#deps, shard, rules, rules.roots);
      case 'read':
        return await this.#read(shard, question.digests);
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
        return await peers.remove(generation, question.digests);
      case 'release':
        return await peers.release(generation);
    }
  }

  /** What manifests name; those that cannot be read now are left out. */
  async #read(
    shard: { readonly upstream: string; readonly repository: RepositoryName },
    digests: readonly Digest[],
  ): Promise<Map<Digest, readonly Digest[]>> {
    const names = new Map<Digest, readonly Digest[]>();
    const read = async (digest: Digest): Promise<void> => {
      try {
        const { bytes } = await this.#deps.manifests.get(shard, { kind: 'digest', digest }, false);
        names.set(
          digest,
          parseManifest(bytes, undefined).descriptors.map((one) => one.digest),
        );
      } catch (error) {
        logFailure(this.#deps.log, error, 'manifest not read for garbage collection', { ...shard, digest });
      }
    };
    await fewAtOnce(digests, READS, read);
    return names;
  }

  /** Indexes of layers by repository: who has a layer finds its index by the layer's record. */
  async #layerIndexes(): Promise<Map<string, Set<Digest>>> {
    const { peers } = this.#deps;
    const found = new Map<string, Set<Digest>>();
    let count = 0;
    for (const id of peers.ids) {
      const read = async (after: string | undefined) => await peers.layerIndexes(id, after);
      for await (const { upstream, repository, index } of pagesOf(read, ({ layer }) => layer)) {
        if (upstream === undefined || repository === undefined || index === undefined) continue;
        const key = shardKey(upstream, repository);
        const known = found.get(key) ?? new Set();
        found.set(key, known.add(index));
        count += 1;
        if (count > MAX_INDEXES) throw refused(`there are more than ${MAX_INDEXES} records of layers`);
      }
    }
    return found;
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

  async #hasPushedBlobs(): Promise<boolean> {
    const { peers } = this.#deps;
    for (const id of peers.ids)
      for (let after: Digest | undefined; ; ) {
        const page = await peers.candidates(id, after, 0);
        if (page.digests.length > 0) return true;
        if (page.next === undefined) break;
        after = page.next;
      }
    return false;
  }
}

function brief(report: Report): Omit<Report, 'repositories'> {
  const { repositories: _, ...rest } = report;
  return rest;
}
