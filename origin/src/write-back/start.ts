import type { Digest } from '@sepia/base/digest';
import type { Stoppable } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { Gauge, type Metrics } from '@sepia/base/metrics';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { WriteBackBacklog } from '@sepia/cluster/api/write-back';
import type { Cluster, ClusterUpstream } from '@sepia/cluster/cluster';
import { type WriteBack, writeBackOf } from '@sepia/cluster/write-back';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { BlobStore } from '@sepia/store/blob-store';
import { MAX_PROVENANCE, type Provenance } from '@sepia/store/sidecar';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Members } from '../cluster/members.ts';
import type { Links } from '../records/links.ts';
import type { TagIndex } from '../records/tag-index.ts';
import type { Tags } from '../records/tags.ts';
import type { CarryOut, Replication } from '../replication/replication.ts';
import type { ReplicationQueue } from '../replication/replication-queue.ts';
import { writeBackRule } from '../replication/targets.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { Arrivals } from './arrivals.ts';
import type { Keeper } from './core/arrival.ts';
import { backlogWarning } from './core/backlog-warning.ts';
import { OwedTags } from './owed-tags.ts';
import { WriteBackWork } from './write-back.ts';

interface WriteBackParts {
  readonly cluster: Pick<Cluster, 'upstreams'>;
  readonly tags: Tags;
  readonly tagIndex: TagIndex;
  readonly links: Links;
  /** As records see them. */
  readonly members: Members;
  readonly records: RecordStore;
  readonly upstreams: Upstreams;
  readonly index: BlobIndex;
  readonly store: BlobStore;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
}

/** What sees to it that nothing is owed without a job, and that what came to the registry need not stay here. */
interface WriteBackWatch extends Stoppable {
  readonly owedTags: OwedTags;
  /** A push needs this blob from now on. */
  readonly onKept: (digest: Digest) => void;
  start(): void;
}

/** Write-back as the rest of an origin sees it. */
export interface WriteBackView {
  readonly carryOut: CarryOut;
  /** What waits lies in this queue. Returns what looks after it behind; not started. */
  watch(replication: Pick<Replication, 'backlogs' | 'wake'>, queue: ReplicationQueue): WriteBackWatch;
  /** What waits of the repositories that this origin leads, one entry for each upstream of mode write-back. */
  backlogs(): WriteBackBacklog[];
  /** One line for each upstream whose pushes wait too long or were given up. */
  readonly warnings: string[];
}

/** Builds what brings pushes to the registries behind, with its metrics; the queue is that of replication. */
export function createWriteBack(parts: WriteBackParts): WriteBackView {
  const { cluster, metrics, dateMs } = parts;
  const written = cluster.upstreams.flatMap((upstream): [ClusterUpstream, WriteBack][] => {
    const found = writeBackOf(upstream);
    return found === undefined ? [] : [[upstream, found]];
  });
  const conflicts = metrics.counter(
    'sepia_origin_write_back_conflicts_total',
    'Tags that were changed at the registry behind while a push of them waited, by who won: ours, theirs, stop (nobody yet).',
    ['upstream', 'outcome'],
  );
  const work = new WriteBackWork({
    ...parts,
    onConflict: (upstream, outcome) => conflicts.inc({ upstream, outcome }),
  });
  let queue: Pick<Replication, 'backlogs'> | undefined;
  const backlogs = (): WriteBackBacklog[] =>
    written.map(([{ name }]) => {
      const found = queue?.backlogs.get(writeBackRule(name));
      const oldestMs = found?.oldestAtMs === undefined ? undefined : dateMs() - found.oldestAtMs;
      return {
        upstream: name,
        waiting: found?.waiting ?? 0,
        dead: found?.dead ?? 0,
        ...(oldestMs === undefined ? {} : { oldestMs: Math.max(0, oldestMs) }),
      };
    });
  const gauge = (name: string, help: string, value: (backlog: WriteBackBacklog) => number): void => {
    new Gauge({
      name: `sepia_origin_write_back_${name}`,
      help,
      labelNames: ['upstream'],
      registers: [metrics.registry],
      collect() {
        for (const backlog of backlogs()) this.set({ upstream: backlog.upstream }, value(backlog));
      },
    });
  };
  gauge(
    'waiting',
    'Pushes that the registry behind has not got, of the repositories that this origin leads.',
    (one) => one.waiting,
  );
  gauge('dead', 'Pushes that were given up until an operator retries them.', (one) => one.dead);
  gauge('oldest_seconds', 'Age of the oldest push that waits.', (one) => (one.oldestMs ?? 0) / 1_000);
  return {
    carryOut: async (...group) => await work.run(...group),
    watch(replication, jobs) {
      queue = replication;
      const names = written.map(([{ name }]) => name);
      const wake = (): void => replication.wake();
      const owedTags = new OwedTags({ ...parts, upstreams: names, queue: jobs, wake });
      const arrivals = arrivalsOf(parts, jobs, names.length > 0);
      return {
        owedTags,
        onKept: (digest) => arrivals.kept(digest),
        start: () => {
          owedTags.start();
          arrivals.start();
        },
        stop: async () => {
          await Promise.all([owedTags.stop(), arrivals.stop()]);
        },
      };
    },
    backlogs,
    get warnings() {
      return backlogs().flatMap((backlog, index) => backlogWarning(backlog, written[index]![1]) ?? []);
    },
  };
}

/** What sees that pushes came to their registries; not started. */
function arrivalsOf(
  parts: Pick<WriteBackParts, 'cluster' | 'tagIndex' | 'upstreams' | 'index' | 'store' | 'log' | 'nowMs'>,
  jobs: Pick<ReplicationQueue, 'waiting'>,
  isOn: boolean,
): Arrivals {
  const { cluster, tagIndex } = parts;
  const keeping = {
    keeperOf: (upstream: string) => keeperIn(cluster, upstream),
    maxPlaces: MAX_PROVENANCE,
  };
  const owes = async ({ upstream, repository }: Provenance): Promise<boolean> => {
    const place = { upstream, repository: parseRepositoryName(repository) };
    if ((await jobs.waiting(place, writeBackRule(upstream))) !== undefined) return true;
    // One that has lost its job gets another.
    for await (const _ of tagIndex.owed(place)) return true;
    return false;
  };
  return new Arrivals({ ...parts, keeping, owes }, { isOn });
}

function keeperIn({ upstreams }: Pick<Cluster, 'upstreams'>, name: string): Keeper | undefined {
  const found = upstreams.find((one) => one.name === name);
  if (found === undefined) return undefined;
  if (found.mode === 'write-back') return 'registry';
  if (found.mode === 'pull-through') return 'elsewhere';
  return found.backend === undefined ? 'origins' : 'backend';
}
