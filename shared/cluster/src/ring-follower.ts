import { askAll, type Said } from '@sepia/base/async/ask-many';
import { isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { InternalClient, type InternalRequest, type InternalResponse } from '@sepia/http/client';
import { H_EPOCH } from './api/headers.ts';
import { ORIGIN_RING } from './api/ring.ts';
import { to } from './api/route.ts';
import type { Cluster } from './cluster.ts';
import { MEMBERSHIP_MS } from './deadlines.ts';
import { type Membership, refuseOtherRing, ringOfMost, type ToldRing } from './membership.ts';
import { RING_ANSWER } from './ring-messages.ts';

/** Who told which ring, of origins by id and address. */
function toldBy(
  said: readonly Said<readonly [id: string, url: string], Membership | undefined>[],
): ToldRing[] {
  return said.flatMap(({ by: [by], ...one }) =>
    one.type === 'answer' && one.answer !== undefined ? [{ by, membership: one.answer }] : [],
  );
}

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
  const ringOf = async (url: string, id: string): Promise<Membership | undefined> => {
    const call = { ...to(ORIGIN_RING.membership), url, to: id, headersTimeoutMs: MEMBERSHIP_MS };
    const told = RING_ANSWER.safeParse(await client.json(call)).data;
    return told?.founded === true ? told.membership : undefined;
  };
  /** The ring that most origins name, while none is followed yet: the first origin that answers may belong to another ring. */
  const firstRing = async (url: string, id: string): Promise<Membership | undefined> => {
    const origins = new Map(cluster.members('origin').map((one) => [one.id, one.urls[0] ?? ''])).set(id, url);
    const isEnough = (said: Parameters<typeof toldBy>[0]): boolean =>
      ringOfMost(toldBy(said)).count > origins.size / 2;
    return ringOfMost(
      toldBy(await askAll([...origins], async ([by, at]) => await ringOf(at, by), { isEnough })),
    ).ring;
  };
  const follow = async ({ url, to: id }: InternalRequest, epoch: number): Promise<void> => {
    asking = true;
    try {
      const known = cluster.agreed;
      const told = known === undefined ? await firstRing(url, id) : await ringOf(url, id);
      if (told === undefined || told.epoch <= cluster.epoch) return;
      if (known !== undefined) refuseOtherRing(known, told, id);
      cluster.follow(told);
      others.clear();
      log.info({ epoch: cluster.epoch }, 'membership of the ring');
    } catch (error) {
      if (isCoded(error, 'CONFLICT')) {
        others.set(id, epoch);
        logFailure(log, error, 'another ring is not followed', { id, epoch }, 'error');
        return;
      }
      // The next answer names it again.
      logFailure(log, error, 'membership not got', { id }, 'debug');
    } finally {
      asking = false;
    }
  };
  const client = new InternalClient(deps);
  client.onAnswer((call, headers) => {
    const epoch = epochOf(headers);
    if (!asking && epoch > cluster.epoch && epoch > (others.get(call.to) ?? 0)) void follow(call, epoch);
  });
  return client;
}
