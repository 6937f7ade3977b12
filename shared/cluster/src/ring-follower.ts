import { isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { InternalClient, type InternalRequest, type InternalResponse } from '@sepia/http/client';
import { H_EPOCH } from './api/headers.ts';
import { ORIGIN_RING } from './api/ring.ts';
import { to } from './api/route.ts';
import type { Cluster } from './cluster.ts';
import { refuseOtherRing } from './membership.ts';
import { RING_ANSWER } from './ring-messages.ts';

/** How long an origin may take to tell the membership, in ms. */
const ASK_MS = 3_000;

type ClientDeps = ConstructorParameters<typeof InternalClient>[0];

/** Epoch of the ring that an answer names; 0 where it names none. */
export function epochOf(headers: InternalResponse['headers']): number {
  const epoch = Number(headers[H_EPOCH] ?? 0);
  return Number.isSafeInteger(epoch) && epoch > 0 ? epoch : 0;
}

/**
 * A client of a member that is no origin. Every answer of an origin names the epoch of its membership: a newer one is
 * got from that origin, and followed; one of another ring than the one that was followed is refused, and logged once.
 */
export function followingClient(cluster: Cluster, log: Logger, deps: ClientDeps): InternalClient {
  let asking = false;
  /** Newest epochs of other rings, by the origin that named them. */
  const others = new Map<string, number>();
  const follow = async ({ url, to: id }: InternalRequest, epoch: number): Promise<void> => {
    asking = true;
    try {
      const call = { ...to(ORIGIN_RING.membership), url, to: id, headersTimeoutMs: ASK_MS };
      const told = RING_ANSWER.safeParse(await client.json(call)).data;
      if (told?.founded !== true || told.membership.epoch <= cluster.epoch) return;
      if (cluster.agreed !== undefined) refuseOtherRing(cluster.agreed, told.membership, id);
      cluster.follow(told.membership);
      others.clear();
      log.info({ epoch: cluster.epoch }, 'membership of the ring');
    } catch (error) {
      // The next answer names it again.
      const isOther = isCoded(error, 'CONFLICT');
      if (isOther) others.set(id, epoch);
      logFailure(log, error, 'membership not got', { id }, isOther ? 'error' : 'debug');
    } finally {
      asking = false;
    }
  };
  const client = new InternalClient({
    ...deps,
    onAnswer: (call, headers) => {
      const epoch = epochOf(headers);
      if (!asking && epoch > cluster.epoch && epoch > (others.get(call.to) ?? 0)) void follow(call, epoch);
    },
  });
  return client;
}
