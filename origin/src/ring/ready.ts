import { answersOf, askAll, withoutAnswer } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_SYNC } from '@sepia/cluster/api/origin';
import { ORIGIN_RING } from '@sepia/cluster/api/ring';
import { type RouteCall, to } from '@sepia/cluster/api/route';
import type { Member } from '@sepia/cluster/document';
import { type Membership, spareOf } from '@sepia/cluster/membership';
import type { InternalClient } from '@sepia/http/client';
import { type Members, QUICK_MS } from '../cluster/members.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { StandingAnswer } from '../recovery/start-up.ts';

const ASK_MS = QUICK_MS * 4;

interface ReadyDeps {
  readonly client: Pick<InternalClient, 'json'>;
  readonly members: Pick<Members, 'selfId' | 'counted'>;
  readonly standing: Pick<OwnStanding, 'sender'>;
}

/**
 * Whether a change may begin: everybody who must take part answers, and is of a version that can; and at most one of
 * those that join was in the ring before and has lost its records.
 * @throws `REQUEST_INVALID`, `QUORUM_LOST`
 */
export async function checkReady(
  deps: ReadyDeps,
  { current, next }: { readonly current: Membership; readonly next: Membership },
  signal: AbortSignal,
): Promise<void> {
  const known = new Set(current.origins.map(({ id }) => id));
  const asked = next.origins.filter(({ id, state }) => id !== deps.members.selfId && state !== 'draining');
  const said = await askAll(
    asked,
    async (one, over) => await ask(deps, one, to(ORIGIN_RING.membership), over),
    {
      signal,
    },
  );
  for (const { by, ...one } of said)
    if (one.type !== 'answer' && !known.has(by.id))
      throw new CodedError('REQUEST_INVALID', {
        message: `ring: ${by.id} does not answer at ${by.urls[0]}; start it first`,
        cause: one.error,
      });
  const silent = withoutAnswer(said).map(({ id }) => id);
  if (silent.length > spareOf(current.origins))
    throw new CodedError('QUORUM_LOST', {
      message: `ring: ${silent.join(', ')} must answer, and be of this version, before the ring changes`,
    });
  await checkReturns(deps, current, asked, signal);
}

/** Who was in the ring and lost its records is handed over to by all others: two of them would wait for each other. */
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
  return await client.json<T>({ ...call, url, to: id, headersTimeoutMs: ASK_MS, signal });
}
