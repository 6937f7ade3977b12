import { join } from 'node:path';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { logFailure } from '@sepia/base/failure';
import type { StopStack } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import { type Counter, Metrics } from '@sepia/base/metrics';
import { steadyMs } from '@sepia/base/reach';
import { diallingOf } from '@sepia/cluster/member-config';
import { followingClient } from '@sepia/cluster/ring-follower';
import { InternalClient } from '@sepia/http/client';
import { createDispatcher, createMemberSockets } from '@sepia/http/sockets';
import type { MemberEncryption } from '@sepia/http/tls/cluster-encryption';
import { BlobStore } from '@sepia/store/blob-store';
import { budgetOf } from '@sepia/store/core/eviction';
import { DataFolder } from '@sepia/store/data-folder';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { FilePort } from '@sepia/store/files/file-port';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import type { AgentFiles } from './check.ts';
import { CallWatch } from './cluster/members.ts';
import { OriginClient } from './cluster/origin-client.ts';
import { TrackerClient } from './cluster/tracker-client.ts';
import type { AgentConfig } from './config.ts';
import { TagMemory } from './manifests/tag-memory.ts';
import { SourceGate } from './source/source-gate.ts';
import { UpstreamClients } from './source/upstream-clients.ts';

/** What a caller may put in place of the process's own. */
export interface AgentGiven {
  readonly log?: Logger;
  /** File access of the blob store. */
  readonly files?: FilePort;
  /** Environment of the process: HTTP proxies before upstreams. Default: nothing. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** What every part of an agent stands on: who it is, its disk, its clock, its log and its figures. */
export interface Ground extends AgentFiles {
  readonly config: AgentConfig;
  readonly nodeId: string;
  /** `DIR/v1`. */
  readonly dir: string;
  readonly files: FilePort;
  readonly store: BlobStore;
  readonly tags: TagMemory;
  readonly log: Logger;
  readonly clock: MemberClock;
  /** Steady, for intervals. */
  readonly nowMs: () => number;
  /** The cluster's date, which may be set: for what is kept on disk, or told to others. */
  readonly dateMs: () => number;
  readonly metrics: Metrics;
  /** Bytes by where they came from. */
  readonly bytes: Counter;
  readonly stops: StopStack;
}

/** Opens the data folder and what lies in it. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED`, `DISK_FORMAT` */
export async function layGround(
  named: AgentFiles,
  config: AgentConfig,
  given: AgentGiven,
  stops: StopStack,
): Promise<Ground> {
  const clock = new MemberClock();
  const nowMs = steadyMs;
  const dateMs = clock.nowMs;
  const folderLog = given.log ?? createLogger('agent', config.id ?? 'new', config.log.level);
  const folder = await DataFolder.open(
    { log: folderLog },
    { dir: config.data, role: 'agent', ...(config.id === undefined ? {} : { id: config.id }) },
  );
  stops.push('data folder', () => folder.close());
  const { id: nodeId, dir } = folder;
  const log = given.log ?? createLogger('agent', nodeId, config.log.level);
  const metrics = new Metrics('agent', nodeId);
  const bytes = metrics.counter('sepia_agent_bytes_total', 'Bytes by where they came from.', ['source']);
  for (const source of ['peer', 'origin', 'upstream', 'cache']) bytes.inc({ source }, 0);
  const { cache } = config;
  const files = given.files ?? diskFiles;
  const store = await BlobStore.open(
    { files, dir, log, nowMs: dateMs },
    {
      durable: false,
      bootId: folder.bootId,
      ...budgetOf(cache),
    },
  );
  stops.push('store', () => store.close());
  store.reconcile().catch((error: unknown) => logFailure(log, error, 'cache was not counted'));
  const tags = await TagMemory.open(join(dir, 'tags.json'), log);
  stops.push('tags', () => tags.stop());
  return {
    ...named,
    ...{ config, nodeId, dir, files, store, tags },
    ...{ log, clock, nowMs, dateMs, metrics, bytes, stops },
  };
}

/** Those whom an agent asks. */
export interface Outside {
  /** How members encrypt what they say to each other. */
  readonly encryption: MemberEncryption | undefined;
  readonly client: InternalClient;
  readonly health: CallWatch;
  readonly trackers: TrackerClient;
  readonly origins: OriginClient;
  readonly upstreamClient: (name: string) => UpstreamClient;
  readonly gate: SourceGate;
}

/** Makes the clients of trackers, origins and upstreams; nobody is asked yet. */
export function reachOut(ground: Ground, env: AgentGiven['env'] = {}): Outside {
  const { config, cluster, clusterKey, nodeId, log, clock, nowMs, stops } = ground;
  const dialling = diallingOf(cluster, clusterKey, log);
  const { sockets, destroy } = createMemberSockets(dialling);
  stops.push('sockets', destroy);
  const asking = createDispatcher({ connections: 2, ...dialling });
  stops.push('sockets of small questions', () => asking.destroy());
  const own = { clusterKey, memberId: nodeId, clock, oldSignatures: config['old-signatures'] };
  const client = followingClient(cluster, log, { ...own, ...sockets });
  const health = new CallWatch(nowMs, new InternalClient({ ...own, dispatcher: asking }));
  stops.push('small questions', () => health.stop());
  const upstreams = new UpstreamClients({ cluster, log, nowMs, env });
  stops.push('upstreams', () => upstreams.stop());
  return {
    encryption: dialling.encryption,
    client,
    health,
    trackers: new TrackerClient({ cluster, client, health }),
    origins: new OriginClient({ cluster, client, health }),
    upstreamClient: (name) => upstreams.of(name),
    gate: new SourceGate(config['back-to-source']['max-parallel']),
  };
}
