import type { Metrics } from '@sepia/base/metrics';
import { epochOf } from '@sepia/cluster/ring-follower';
import type { InternalClient } from '@sepia/http/client';
import type { RecordStore } from '@sepia/records/store/record-store';
import { FloorPages } from '../floors/floor-pages.ts';
import { FloorRounds, sharedFloorRounds } from '../floors/floor-rounds.ts';
import { Tombstones } from '../floors/tombstones.ts';
import type { Peers } from '../gc/peers.ts';
import { Recovery, type RecoveryDeps } from '../recovery/recovery.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { Agreement } from './agreement.ts';
import type { DoneMoves } from './done-moves.ts';
import { FormerRecords } from './former-records.ts';
import { Leftovers } from './leftovers.ts';
import { Move } from './move.ts';
import { Ring } from './ring.ts';

interface RingParts {
  readonly recovery: Recovery;
  readonly ring: Ring;
  readonly agreement: Agreement;
  readonly floorPages: FloorPages;
  readonly floorRounds: FloorRounds;
  readonly tombstones: Tombstones;
}

/** Recovery and ring: the start of an origin follows the membership, a change of the ring uses the comparison. */
export function createRing(
  deps: RecoveryDeps & {
    readonly client: InternalClient;
    readonly upstreams: Pick<Upstreams, 'keepsPushes'>;
    readonly sweeps: Pick<Peers, 'hold' | 'release'>;
    readonly moves: DoneMoves;
    /** The engine that all origins write to, where there is one. */
    readonly shared: RecordStore | undefined;
    readonly metrics: Metrics;
    readonly nowMs: () => number;
    readonly dateMs: () => number;
  },
  options: { readonly compareEveryMs: number; readonly tombstonesMs: number },
): RingParts {
  const { cluster, members, standing, records, digests, index, hints, tags, log, nowMs, client, sweeps } =
    deps;
  const recovery = new Recovery(deps, () => ring, options);
  const { pull, copies, antiEntropy } = recovery;
  const acceptors = records.agreements;
  const agreement = new Agreement({ cluster, members, standing, acceptors, nowMs });
  const leftovers = new Leftovers({
    cluster,
    members,
    standing,
    index,
    store: deps.store,
    hints,
    copies,
    upstreams: deps.upstreams,
    log,
    nowMs: () => performance.now(),
  });
  const formerRecords = new FormerRecords({
    ...{ members, standing, log, pages: recovery.pages, isShared: records.isShared },
    nowMs: () => performance.now(),
  });
  const { moves } = deps;
  const move = new Move({ members, records, pull, tags, index, hints, copies, moves, log });
  const ring: Ring = new Ring({
    cluster,
    members,
    client,
    standing,
    agreement,
    move,
    index,
    hints,
    sweeps,
    leftovers,
    formerRecords,
    log,
    onFollow: () => {
      digests.reset();
      recovery.startUp.followed();
      for (const id of members.ids) if (id !== members.selfId) antiEntropy.soon(id);
    },
  });
  client.onAnswer(({ to }, headers) => ring.heard(epochOf(headers), to));
  tags.onOutdated(async (epoch, from) => await ring.reach(epoch, from));
  return { recovery, ring, agreement, ...createFloors(deps, () => ring, options.tombstonesMs) };
}

/** How tombstones of this origin go. */
function createFloors(
  deps: Parameters<typeof createRing>[0],
  ring: () => Ring,
  graceMs: number,
): Pick<RingParts, 'floorPages' | 'floorRounds' | 'tombstones'> {
  const { cluster, members, standing, records, digests, shared, metrics, log, dateMs } = deps;
  const dropped = metrics.counter(
    'sepia_origin_tombstones_dropped_total',
    'Records of deletes that went from here: all of their owners agreed up to there.',
  );
  const onDropped = (count: number): void => dropped.inc(count);
  const floorRounds = new FloorRounds({ members, standing, records, dateMs, onDropped });
  const rounds = shared === undefined ? floorRounds : sharedFloorRounds({ records: shared, onDropped });
  const kept = shared ?? records;
  const tombstones = new Tombstones(
    { cluster, members, standing, records: kept, ring, rounds, log, dateMs },
    { graceMs },
  );
  metrics.gauge(
    'sepia_origin_tombstones',
    'Records of deletes here, as they were looked through last; NaN before that.',
    () => tombstones.count,
  );
  metrics.gauge(
    'sepia_origin_floors',
    'Repositories of which owners agreed, or look for, up to where deletes need no records.',
    () => kept.floors.size,
  );
  return { floorPages: new FloorPages({ records, digests }), floorRounds, tombstones };
}
