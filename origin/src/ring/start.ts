import { epochOf } from '@sepia/cluster/ring-follower';
import type { InternalClient } from '@sepia/http/client';
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
}

/** Recovery and ring: the start of an origin follows the membership, a change of the ring uses the comparison. */
export function createRing(
  deps: RecoveryDeps & {
    readonly client: InternalClient;
    readonly upstreams: Pick<Upstreams, 'keepsPushes'>;
    readonly sweeps: Pick<Peers, 'hold' | 'release'>;
    readonly moves: DoneMoves;
    readonly nowMs: () => number;
  },
  options: { readonly compareEveryMs: number },
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
  return { recovery, ring, agreement };
}
