import { answersOf, askAll, withoutAnswer } from '@sepia/base/async/ask-many';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ORIGIN_SYNC } from '@sepia/cluster/api/origin';
import { ORIGIN_RING, type RingStatus } from '@sepia/cluster/api/ring';
import { type RouteCall, to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { addressFaults, type Member } from '@sepia/cluster/document';
import { forkOf, type Membership, ringInWords, spareOf } from '@sepia/cluster/membership';
import { RING_ANSWER, type RingAnswer } from '@sepia/cluster/ring-messages';
import type { InternalClient } from '@sepia/http/client';
import type { Members } from '../cluster/members.ts';
import { PATIENT_MS } from '../deadlines/members.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { StandingAnswer } from '../recovery/messages.ts';

interface ReadyDeps {
  readonly cluster: Pick<Cluster, 'document'>;
  readonly client: Pick<InternalClient, 'json'>;
  readonly members: Pick<Members, 'selfId' | 'counted'>;
  readonly standing: Pick<OwnStanding, 'sender'>;
}

interface Change {
  readonly current: Membership;
  readonly next: Membership;
}

/**
 * Whether a change may begin: everybody who must take part answers, and is of a version that can; who joins is of no
 * other ring, has an address of its own, and at most one of them was in the ring before and has lost its records.
 * Who is taken out owes nothing, if it answers.
 * @throws `REQUEST_INVALID`, `QUORUM_LOST`, `CONFLICT`
 */
export async function checkReady(deps: ReadyDeps, change: Change, signal: AbortSignal): Promise<void> {
  const { current, next } = change;
  checkAddresses(deps, change);
  const asked = next.origins.filter(({ id, state }) => id !== deps.members.selfId && state !== 'draining');
  // Who is drained may be dead; if it answers, it must be of this version too.
  const leaving = current.origins.filter(
    ({ id }) => id !== deps.members.selfId && !asked.some((one) => one.id === id),
  );
  const said = await askAll(
    [...asked, ...leaving],
    async (one, over) => RING_ANSWER.safeParse(await ask(deps, one, to(ORIGIN_RING.membership), over)),
    { signal },
  );
  const known = new Set(current.origins.map(({ id }) => id));
  for (const { by, ...one } of said) {
    if (one.type === 'answer' ? !one.answer.success : isCoded(one.error, 'ROUTE_UNKNOWN'))
      throw refused(
        `${by.id} is of another version; all origins must be of this one before the ring changes`,
      );
    if (one.type === 'answer') checkLineage(current, by, one.answer.data!);
    else if (!known.has(by.id))
      throw refused(`${by.id} does not answer at ${by.urls[0]}; start it first`, one.error);
  }
  const silent = withoutAnswer(said).filter((one) => asked.includes(one));
  if (silent.length > spareOf(current.origins))
    throw new CodedError('QUORUM_LOST', {
      message: `ring: ${silent.map(({ id }) => id).join(', ')} must answer, and be of this version, before the ring changes`,
    });
  await checkReturns(deps, current, asked, signal);
  await checkLeavers(deps, change, signal);
}

/**
 * Who is taken out may be emptied from then on: while it runs and keeps something that its owners did not confirm, or owes
 * copies, it stays. One that does not answer is given up. @throws `CONFLICT`
 */
async function checkLeavers(deps: ReadyDeps, { current, next }: Change, signal: AbortSignal): Promise<void> {
  const leavers = current.origins.filter(({ id }) => !next.origins.some((one) => one.id === id));
  const said = await askAll(
    leavers,
    async (one, over) => await ask<RingStatus>(deps, one, to(ORIGIN_RING.status), over),
    { signal },
  );
  for (const { id, leftovers, copiesOwed } of answersOf(said)) {
    if (leftovers === 0 && copiesOwed === 0) continue;
    const why =
      leftovers === undefined
        ? 'whether all that it kept is with its new owners is being looked through'
        : `${leftovers} blobs are not confirmed by their new owners yet, and it owes ${copiesOwed} copies`;
    throw new CodedError('CONFLICT', {
      message: `ring: ${id} cannot be taken out yet: ${why}; wait for it, or stop it to give that up`,
      detail: { id },
    });
  }
}

/** An address of one that joins is nobody else's, of origins or others. @throws `REQUEST_INVALID` */
function checkAddresses({ cluster }: ReadyDeps, { current, next }: Change): void {
  const owning = new Set(current.origins.filter(isActive).map(({ id }) => id));
  const joining = next.origins.filter((one) => isActive(one) && !owning.has(one.id));
  const ids = new Set(joining.map(({ id }) => id));
  const others = cluster.document.members.filter(({ id }) => !ids.has(id));
  const shared = addressFaults([...others, ...joining]).find(({ id }) => ids.has(id));
  if (shared !== undefined) throw refused(shared.message);
}

/** Epochs alone do not tell one ring from another: what an origin of another one keeps would win here. */
function checkLineage(current: Membership, { id }: Member, { founded, membership }: RingAnswer): void {
  if (!founded) return;
  const here = current.origins.find((one) => one.id === id);
  const fork = forkOf(membership, current);
  const isSame = fork === undefined;
  if (here !== undefined && isActive(here)) {
    if (isSame) return;
    throw refused(
      `${id} is of another ring: it knows other origins at epoch ${fork} (${ringInWords(membership)}; here ${ringInWords(current)}); the ring does not change before those that are wrong were started empty, one at a time`,
    );
  }
  const there = [...membership.origins, ...(membership.before ?? [])].find((one) => one.id === id);
  if (isSame && membership.epoch <= current.epoch && (there === undefined || there.state === here?.state))
    return;
  const left =
    membership.epoch < current.epoch
      ? '; if it was in this one before, wait until it knows that it left'
      : '';
  throw refused(
    `${id} belongs to another ring (epoch ${membership.epoch}: ${ringInWords(membership)}); empty its folder${left}`,
  );
}

function isActive({ state }: Pick<Member, 'state'>): boolean {
  return state !== 'draining';
}

function refused(message: string, cause?: unknown): CodedError {
  return new CodedError('REQUEST_INVALID', { message: `ring: ${message}`, cause });
}

/**
 * Refuses to add, in one change, two origins that were in the ring before and lost their records: each needs a handover from
 * all others, so they would wait for each other.
 */
async function checkReturns(
  deps: ReadyDeps,
  { origins }: Membership,
  asked: readonly Member[],
  signal: AbortSignal,
): Promise<void> {
  const { members, standing } = deps;
  const call = to(ORIGIN_SYNC.standing);
  const old = origins.filter(({ state }) => state !== 'draining').map(({ id }) => id);
  const joining = asked.filter(({ id }) => !old.includes(id));
  const said = await askAll(
    joining,
    async (one, over) => ({ id: one.id, ...(await ask<StandingAnswer>(deps, one, call, over)) }),
    { signal },
  );
  const empty = answersOf(said).filter(({ settled, kept }) => !settled && kept !== true);
  if (empty.length < 2) return;
  const others = old.filter((id) => id !== members.selfId);
  const told = await askAll(
    others,
    async (id, over) => await members.counted(id, { ...call, signal: over }),
    {
      signal,
    },
  );
  const senders = [standing.sender, ...answersOf(told).map(({ sender }) => sender)];
  const returning = empty
    .map(({ id }) => id)
    .filter((id) => senders.some((sender) => (sender.known[id] ?? 0) > 0));
  if (returning.length > 1)
    throw new CodedError('REQUEST_INVALID', {
      message: `ring: ${returning.join(' and ')} were in the ring before and lost their records; add them one by one, or give them new ids`,
    });
}

async function ask<T>(
  { client }: ReadyDeps,
  { id, urls: [url = ''] }: Member,
  call: RouteCall,
  signal: AbortSignal,
): Promise<T> {
  return await client.json<T>({ ...call, url, to: id, headersTimeoutMs: PATIENT_MS, signal });
}
