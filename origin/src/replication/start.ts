import { chance } from '@sepia/base/clock/chance';
import type { Digest } from '@sepia/base/digest';
import type { Logger } from '@sepia/base/log';
import type { Metrics } from '@sepia/base/metrics';
import { parseRepositoryName, type RepositoryName } from '@sepia/base/names/repository';
import type { Cluster } from '@sepia/cluster/cluster';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Provenance } from '@sepia/store/sidecar';
import type { CredentialConfig } from '@sepia/upstream/credentials/open';
import type { Blobs } from '../blobs/blobs.ts';
import type { Members } from '../cluster/members.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { Referrers } from '../records/referrers.ts';
import type { TagIndex } from '../records/tag-index.ts';
import type { Tags } from '../records/tags.ts';
import { BlobReader } from './blob-reader.ts';
import { deleteAtTarget, ImageCopy } from './image-copy.ts';
import { ReplicationIntake } from './intake.ts';
import { type CarryOut, Replication } from './replication.ts';
import { ReplicationJobs } from './replication-jobs.ts';
import { ReplicationQueue } from './replication-queue.ts';
import { openTargets, type Target } from './targets.ts';

/** Referrers of one manifest that are looked at; a rule may have less. */
const MAX_REFERRERS = 10_000;

interface IntakeParts {
  readonly cluster: Cluster;
  readonly members: Members;
  /** As records see them. */
  readonly recordMembers: Members;
  readonly records: RecordStore;
  readonly tagIndex: TagIndex;
  readonly credentials: Readonly<Record<string, CredentialConfig>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly standing: Pick<OwnStanding, 'require' | 'counts' | 'sender' | 'within'>;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
}

/** What becomes a job, and where it lies. */
interface NotedWork {
  readonly intake: ReplicationIntake;
  readonly queue: ReplicationQueue;
  readonly jobs: ReplicationJobs;
  readonly targets: ReadonlyMap<string, Target>;
}

interface ReplicationParts extends NotedWork {
  readonly members: Members;
  readonly blobs: Blobs;
  readonly store: BlobStore;
  readonly tags: Tags;
  readonly referrers: Referrers;
  readonly manifests: Manifests;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** Carries out jobs of the registries behind upstreams. */
  readonly writeBack: CarryOut;
}

/** Opens the queue and what notes jobs in it. @throws {CodedError} `CONFIG_INVALID` */
export function openIntake(parts: IntakeParts): NotedWork {
  const { cluster, members, records, standing, tagIndex, credentials, env, log, nowMs, dateMs } = parts;
  const jobs = new ReplicationJobs({ records, nowMs: dateMs });
  const queue = new ReplicationQueue({ members: parts.recordMembers, jobs, standing, nowMs: dateMs });
  const targets = openTargets({ cluster, credentials, env, log, nowMs, dateMs });
  const intake = new ReplicationIntake({ members, records, queue, targets, tagIndex, nowMs });
  return { intake, queue, jobs, targets };
}

/** Builds replication with its metrics; not started. */
export function createReplication(parts: ReplicationParts): Replication {
  const { members, jobs, queue, targets, blobs, store, manifests, tags, metrics, log, nowMs } = parts;
  const bytes = metrics.counter('sepia_origin_replication_bytes_total', 'Bytes of blobs sent to targets.', [
    'rule',
  ]);
  const outcomes = metrics.counter(
    'sepia_origin_replication_jobs_total',
    'Runs of replication jobs by how they ended: done, failed (tried again), dead.',
    ['rule', 'outcome'],
  );
  const reader = new BlobReader({ blobs, members });
  const referrersOf = async (
    name: { readonly upstream: string; readonly repository: RepositoryName },
    subject: Digest,
  ): Promise<Digest[]> => {
    const found: Digest[] = [];
    let last: string | undefined;
    do {
      const page = await parts.referrers.list({ ...name, digest: subject }, { last });
      for (const { digest } of page.manifests) found.push(digest as Digest);
      last = page.next;
    } while (last !== undefined && found.length < MAX_REFERRERS);
    return found;
  };
  const broughtBy = async (digest: Digest): Promise<readonly Provenance[]> =>
    (await store.stat(digest))?.attrs.provenance ?? [];
  const onBytes = (rule: string, count: number): void => bytes.inc({ rule }, count);
  const replication = new Replication({
    members,
    jobs,
    queue,
    targets,
    carryOut: carryOut(parts),
    newCopy: (target, signal) =>
      new ImageCopy({ manifests, tags, reader, referrersOf, broughtBy, nowMs, onBytes }, target, signal),
    log,
    nowMs,
    chance,
    onOutcome: (rule, outcome) => outcomes.inc({ rule, outcome }),
  });
  metrics.gauge(
    'sepia_origin_replication_waiting',
    'Replication jobs on record here that are not dead.',
    () => replication.counts.waiting,
  );
  metrics.gauge('sepia_origin_replication_running', 'Copies under way.', () => replication.counts.running);
  metrics.gauge(
    'sepia_origin_replication_dead',
    'Replication jobs on record here that were given up.',
    () => replication.counts.dead,
  );
  parts.intake.onNoted(() => replication.wake());
  return replication;
}

/** What a rule wants: a copy, or a tag taken away; of the registry behind an upstream what is owed to it. */
function carryOut({ tags, writeBack }: Pick<ReplicationParts, 'tags' | 'writeBack'>): CarryOut {
  return async (group, target, copy, signal) => {
    if (target.writeBack !== undefined) return await writeBack(group, target, copy, signal);
    const { job } = group[0]!;
    const name = { ...job, repository: parseRepositoryName(job.repository) };
    if (job.kind === 'copy') await copy.run(name);
    else await deleteAtTarget({ tags }, target, { name, copy }, signal);
  };
}
