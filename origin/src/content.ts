import type { Digest } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { ownerName } from '@sepia/records/table/owner';
import { createWriteBehind } from './backend/start.ts';
import { Absence } from './blobs/absence.ts';
import { Blobs } from './blobs/blobs.ts';
import { Hints } from './blobs/hints.ts';
import { Replicator } from './blobs/replicator.ts';
import { soundness } from './blobs/soundness.ts';
import { Swarms } from './blobs/swarms.ts';
import { WholeBlobs } from './blobs/whole-blobs.ts';
import { CachedCopies } from './cached/cached-copies.ts';
import { ContentGuard } from './fence/content-guard.ts';
import { Fence } from './fence/core/fence.ts';
import { Fetches } from './fetch/fetches.ts';
import { byteCounters } from './gauges.ts';
import type { Ground } from './ground.ts';
import type { Outside } from './outside.ts';
import { LinkProofs } from './proofs/link-proofs.ts';
import { Catalog } from './records/catalog.ts';
import { Links } from './records/links.ts';
import { PublicRepositories } from './records/public-repositories.ts';
import { Quotas } from './records/quotas.ts';
import { recordSets } from './records/record-sets.ts';
import { Referrers } from './records/referrers.ts';
import { TagIndex } from './records/tag-index.ts';
import { Tags } from './records/tags.ts';
import { Invalidation } from './removal/invalidation.ts';
import { DoneMoves } from './ring/done-moves.ts';

/** What an origin knows of names, by the records that its shards' owners keep. */
export type Names = ReturnType<typeof createNames>;
/** What an origin has of blobs. */
export type Content = ReturnType<typeof createContent>;

/** Third: tags, links, referrers, quotas; and what takes rights back everywhere. */
export function createNames(ground: Ground, outside: Outside) {
  const { given, records, recordStanding, store, nowMs, dateMs } = ground;
  const { cluster, selfId, log, stops } = given;
  const { members, recordMembers, upstreams, client } = outside;
  const counted = { members: recordMembers, records, standing: recordStanding };
  const sets = recordSets({ ...counted, nowMs: dateMs });
  const invalidation = new Invalidation({ cluster, client, selfId, log, nowMs });
  stops.push('revocations', () => invalidation.stop());
  const proofs = new LinkProofs({ store, upstreams, members, log, nowMs });
  stops.push('link proofs', () => proofs.stop());
  const links = new Links({ set: sets.links, upstreams, nowMs, dateMs, onConfirmed: proofs.note });
  invalidation.onRevoked((revoked) => {
    for (const name of revoked) proofs.forget(name);
    links.revoke(revoked);
  });
  const isLinked = async (name: Parameters<Links['find']>[0]): Promise<boolean> =>
    (await links.find(name)) !== undefined;
  return {
    ...{ counted, sets, invalidation, proofs, links },
    quotas: new Quotas({ members, records, upstreams, log, nowMs, isLinked }),
    tags: new Tags({ ...counted, nowMs, dateMs }),
    tagIndex: new TagIndex(counted),
    referrers: new Referrers({ set: sets.referrers, upstreams, log }),
    catalog: new Catalog({ cluster, ...counted }),
    publics: new PublicRepositories({ set: sets.public, log, nowMs, dateMs }),
  };
}

/** Fourth: blobs as they come, are kept sound, copied to their owners and handed out. */
export function createContent(ground: Ground, outside: Outside, { links, proofs }: Names) {
  const { given, pace, opened, standing, metrics, store, index, room, backends, nowMs, dateMs } = ground;
  const { config, cluster, clusterKey, log, stops } = given;
  const { members, upstreams, engine } = outside;
  const { deadlines, scrub } = config;
  const { fetched, servedBytes } = byteCounters(metrics, cluster.upstreams);
  const swarms = new Swarms({ engine, store, log, nowMs }, { idleMs: deadlines['swarm-idle'] });
  stops.push('swarms', async () => await swarms.stop());
  const bad = metrics.counter('sepia_swarm_pieces_bad_total', 'Pieces that did not match their hash.');
  swarms.onBadPiece(() => bad.inc());
  store.onEvicted((digest) => swarms.forget(digest));
  store.onTight(() => swarms.makeRoom());
  const hints = new Hints({ records: opened.records, log, nowMs: dateMs });
  stops.push('copies made', async () => await hints.settle());
  const { repair, scrubber } = soundness(
    { members, store, room, index, upstreams, metrics, dir: opened.folder.dir, stops, log, nowMs, dateMs },
    { rateBytesPerSec: scrub.rate, everyMs: scrub.every, mendMs: deadlines['body-stall'] },
  );
  swarms.onComplaint((digest, piece) => repair.lookBehind(digest, piece));
  const lookAgain = async (digest: Digest): Promise<void> => await repair.look(digest);
  const replicator = new Replicator(
    { members, store, hints, upstreams, lookAgain, log },
    { stragglerMs: deadlines['copy-straggler'] },
  );
  stops.push('replicator', async () => await replicator.stop());
  const cachedCopies = new CachedCopies({ members, upstreams, replicator, log, nowMs });
  stops.push('copies of cached blobs', async () => await cachedCopies.stop());
  const onCached = (name: BlobName): void => cachedCopies.lookAfter(name);
  const fetches = new Fetches(
    { store, upstreams, room, log, nowMs, events: swarms, onFetched: onCached, ...fetched },
    pace,
  );
  stops.push('fetches', async () => fetches.stop());
  const fence = new Fence();
  const owner = ownerName(clusterKey);
  const writeBehind = createWriteBehind({
    ...{ cluster, owner, fence, db: opened.folder.db, backends, index, store, members, lookAgain },
    ...{ metrics, log, nowMs, dateMs },
  });
  stops.push('backends', async () => await writeBehind.stop());
  const moves = new DoneMoves();
  const absence = new Absence({ members, standing, index, store, moves });
  const blobs = new Blobs({
    ...{ members, store, links, proofs, fetches, swarms, upstreams, repair, absence, onCached },
  });
  return {
    ...{
      swarms,
      fetches,
      hints,
      repair,
      scrubber,
      replicator,
      cachedCopies,
      fence,
      owner,
      writeBehind,
      moves,
      blobs,
    },
    servedBytes,
    guard: new ContentGuard({ fence, elapsedMs: nowMs }),
    whole: new WholeBlobs({ members, store, fetches, blobs, replicator }),
  };
}
