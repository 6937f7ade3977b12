import { throwIfBug } from '@sepia/base/failure';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import type { Authorizer } from '@sepia/upstream/authenticator';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import type { Members } from '../cluster/members.ts';
import { QUICK_MS } from '../deadlines/members.ts';
import type { PrivateRepositories } from './private-repositories.ts';
import type { Sessions } from './sessions.ts';

/** Credentials of clients that are tried for one request, the newest first. */
export const MAX_LENT = 3;

interface NamesDeps {
  readonly members: Members;
  readonly sessions: Sessions;
  readonly privates: Pick<PrivateRepositories, 'has'>;
}

/** What is needed to know of an upstream. */
interface Of {
  readonly name: string;
  readonly client: UpstreamClient;
  readonly anonymous: Authorizer;
  readonly hasRobot: boolean;
  readonly fetchWith: 'any' | 'robot' | 'client';
}

/**
 * In whose name content is fetched, in the order to try (key `fetch-with`): the robot of the origins, nobody, then
 * clients that the upstream accepted for the repository, known here or at the origins that checked them. Their
 * credentials go from origin to origin in the answer of a signed call, and only when nothing else helped.
 */
export async function* namesToFetchWith(
  deps: NamesDeps,
  upstream: Of,
  repository: string,
  signal: AbortSignal,
): AsyncGenerator<Authorizer, void, undefined> {
  const { client, anonymous, hasRobot, fetchWith } = upstream;
  const key = shardKey(upstream.name, repository);
  if (hasRobot && fetchWith !== 'client') yield client.own;
  if (!deps.privates.has(key)) yield anonymous;
  if (fetchWith === 'robot' || (hasRobot && fetchWith === 'any')) return;
  const tried = new Set<string>();
  for (const { authorization, as } of deps.sessions.of(key).slice(0, MAX_LENT)) {
    tried.add(authorization);
    yield as;
  }
  const { members } = deps;
  for (const id of members.tries(key)) {
    if (id === members.selfId || tried.size >= MAX_LENT) continue;
    for (const authorization of await lentBy(members, id, upstream.name, repository, signal)) {
      if (tried.has(authorization) || tried.size >= MAX_LENT) continue;
      tried.add(authorization);
      const as = deps.sessions.authorizer(client, key, authorization);
      if (as !== undefined) yield as;
    }
  }
}

async function lentBy(
  members: Members,
  id: string,
  upstream: string,
  repository: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  try {
    const { authorizations } = await members.json<{ authorizations?: unknown }>(id, {
      ...to(ORIGIN_RECORDS.lend, { upstream, repository }),
      headersTimeoutMs: QUICK_MS,
      signal,
    });
    return Array.isArray(authorizations) ? authorizations.filter((one) => typeof one === 'string') : [];
  } catch (error) {
    throwIfBug(error);
    signal.throwIfAborted();
    return [];
  }
}
