import { MemberClock } from '@sepia/base/clock/member-clock';
import type { StopStack } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import { steadyMs } from '@sepia/base/reach';
import type { Cluster } from '@sepia/cluster/cluster';
import { DiskRoom, type FreeBytes } from '@sepia/store/disk-room';
import { openBackends } from './backend/start.ts';
import { BlobIndex } from './blobs/blob-index.ts';
import { openStore } from './blobs/open-store.ts';
import { type OriginConfig, paceOf } from './config.ts';
import { openRecordEngine } from './records/record-engine.ts';
import { openRecords } from './recovery/open-records.ts';

/** What an origin is made of when it starts. */
export interface OriginGiven {
  readonly config: OriginConfig;
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly selfId: string;
  readonly log: Logger;
  readonly stops: StopStack;
  /** Free bytes of the data disk; undefined: the system's. */
  readonly freeBytes: FreeBytes | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly acceptLoss: boolean;
}

/** What an origin stands on. */
export type Ground = Awaited<ReturnType<typeof openGround>>;

/** First: clocks, records, the disk with its blobs, the backends. @throws {CodedError} as their `open` */
export async function openGround(given: OriginGiven) {
  const { config, cluster, clusterKey, selfId, log, stops, env, acceptLoss, freeBytes } = given;
  const pace = paceOf(config);
  const clock = new MemberClock();
  const [nowMs, dateMs] = [steadyMs, clock.nowMs];
  const startedMs = nowMs();
  const metrics = new Metrics('origin', selfId);
  const opened = await openRecords({ cluster, selfId, log, nowMs: dateMs }, { dir: config.data, acceptLoss });
  const { folder, standing, digests } = opened;
  stops.push('data folder', async () => await folder.close());
  /** What the others were told of this origin's end, once they were. */
  const ending: { word?: string | undefined } = {};
  stops.push('standing', async () => await standing.closeWith(ending.word, digests.whole));
  stops.push('records', async () => await opened.records.close());
  const engine = await openRecordEngine(
    { ...opened, clusterKey, metrics, stops, log },
    { config: config.records, acceptLoss },
  );
  const index = await BlobIndex.open({ db: folder.db, records: opened.records, log });
  const room = new DiskRoom({ selfId, dir: folder.dir, log, nowMs, freeBytes });
  stops.push('disk room', () => room.stop());
  await room.start();
  const store = await openStore({ folder, room, index, log, nowMs: dateMs }, config.cache);
  stops.push('blob store', async () => await store.close());
  const backends = await openBackends({ cluster, db: folder.db, env, log, nowMs, stops }, pace);
  return {
    ...{ given, pace, clock, nowMs, dateMs, startedMs, metrics, ending },
    ...{ opened, folder, standing, digests, index, room, store, backends },
    ...{ recordEngine: engine, records: engine.records, recordStanding: engine.standing },
  };
}
