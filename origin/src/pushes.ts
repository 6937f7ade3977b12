import { NodeCommands } from '@sepia/cluster/node-commands';
import { Access } from './access/access.ts';
import { Kept } from './blobs/kept.ts';
import { Uploads } from './blobs/uploads.ts';
import { uploadOptions } from './config.ts';
import type { Content, Names } from './content.ts';
import { createGc } from './gc/start.ts';
import type { Ground } from './ground.ts';
import { Manifests } from './manifests/manifests.ts';
import { PullTimes } from './manifests/pull-times.ts';
import { Recheck } from './manifests/recheck.ts';
import type { Outside } from './outside.ts';
import { createRemoval } from './removal/start.ts';
import { createReplication, openIntake } from './replication/start.ts';
import { createRing } from './ring/start.ts';
import { RegistryBehind } from './upstream/registry-behind.ts';
import { refuseLeftBehind, refuseMoved } from './write-back/left-behind.ts';
import { createWriteBack } from './write-back/start.ts';

/** Manifests, and what is done with them. */
export type Pushes = Awaited<ReturnType<typeof createPushes>>;
/** What takes content away, lets clients in, and follows the ring. */
export type Keeping = ReturnType<typeof createKeeping>;

/** Fifth: manifests with what goes on from a push: replication, the registry behind. @throws {CodedError} `START_FAILED` */
export async function createPushes(ground: Ground, outside: Outside, names: Names, content: Content) {
  const { given, records, recordStanding, metrics, store, index, standing, folder, nowMs, dateMs } = ground;
  const { cluster, log, stops, acceptLoss } = given;
  const { members, recordMembers, upstreams, identities } = outside;
  const { counted, tags, tagIndex, links, proofs, quotas, referrers } = names;
  const { blobs, cachedCopies, repair, replicator, guard } = content;
  const behind = new RegistryBehind({ cluster, upstreams, nowMs });
  const writeBack = createWriteBack({
    ...{ cluster, ...counted, upstreams, index, store, tags, tagIndex, links },
    ...{ metrics, log, nowMs, dateMs },
  });
  const noted = openIntake({
    ...{ cluster, members, recordMembers, records, standing: recordStanding, tagIndex },
    ...{ ...identities, log, nowMs, dateMs },
  });
  const { intake, queue, jobs } = noted;
  const keeps = new Kept({ members, standing, store });
  const manifests = new Manifests({
    ...{ members, store, blobs, cachedCopies, links, keeps, proofs, quotas, tags, referrers, replicator },
    ...{ replication: intake, behind, upstreams, repair, guard, log, nowMs: dateMs },
    recheck: new Recheck({ members, upstreams, log, nowMs }),
  });
  const replication = createReplication({
    ...{ ...noted, members, blobs, store, tags, referrers, manifests },
    ...{ writeBack: writeBack.carryOut, metrics, log, nowMs },
  });
  stops.push('replication', async () => await replication.stop());
  await refuseLeftBehind({ cluster, jobs, log }, acceptLoss);
  await refuseMoved({ cluster, jobs, db: folder.db });
  const watch = writeBack.watch(replication, queue);
  keeps.onKept(watch.onKept);
  stops.push('write-back', async () => await watch.stop());
  const pullTimes = new PullTimes({ upstreams, log, nowMs });
  stops.push('pull times', async () => await pullTimes.stop());
  return { behind, writeBack, intake, queue, keeps, manifests, replication, watch, pullTimes };
}

/** Sixth: removals, garbage collection, access, uploads, the ring and what a lost disk is refilled by. */
export function createKeeping(
  ground: Ground,
  outside: Outside,
  names: Names,
  content: Content,
  { manifests, intake, behind }: Pushes,
) {
  const { given, opened, records, recordStanding, metrics, store, index, room, backends } = ground;
  const { nowMs, dateMs } = ground;
  const { config, cluster, selfId, log, stops } = given;
  const { members, client, upstreams, sessions, privates } = outside;
  const { sets, links, tags, tagIndex, referrers, invalidation, quotas, publics } = names;
  const { blobs, swarms, replicator, fence, owner, guard, hints, moves } = content;
  const { deletes, purges, removals } = createRemoval({
    ...{ members, store, links, linkSet: sets.links, tags, tagIndex, manifests, referrers, behind },
    ...{ replication: intake, invalidation, upstreams, log, commands: new NodeCommands({ cluster, client }) },
  });
  const gc = createGc(
    {
      ...{ cluster, backends, owner, members, records, standing: recordStanding, sets, store },
      ...{ swarms, replicator, tags, manifests, blobs, links, invalidation },
      ...{ fence, elapsedMs: nowMs, metrics, log, nowMs: dateMs },
    },
    config['garbage-collection'],
  );
  stops.push('garbage collection', async () => await gc.stop());
  const access = new Access({
    ...{ upstreams, manifests, tags, links, sessions, privates, publics, nowMs, dateMs },
  });
  const uploads = new Uploads(
    { selfId, store, links, quotas, replicator, guard, upstreams, room, log, nowMs },
    uploadOptions(config),
  );
  stops.push('uploads', async () => await uploads.stop());
  const { recovery, ring, agreement, ...floors } = createRing(
    {
      ...{ ...opened, cluster, members, client, index, store, hints, moves },
      shared: records.isShared ? records : undefined,
      ...{ replicator, tags, upstreams, metrics, log, nowMs, dateMs, sweeps: gc.peers },
    },
    { compareEveryMs: config['compare-every'], tombstonesMs: config.records.tombstones },
  );
  stops.push('ring', async () => await ring.stop());
  stops.push('recovery', async () => await recovery.stop());
  stops.push('tombstones', async () => await floors.tombstones.stop());
  return { deletes, purges, removals, gc, access, uploads, recovery, ring, agreement, ...floors };
}
