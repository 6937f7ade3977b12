import { parseChallenges } from '@sepia/oci/www-authenticate';
import { request } from 'undici';

/** A user with a password. */
export interface TestUser {
  readonly username: string;
  readonly password: string;
}

export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly bytes: Buffer;
}

/** One request, answered to its end. */
export async function ask(
  url: string,
  headers: Readonly<Record<string, string>> = {},
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE' = 'GET',
  body?: Buffer | string,
): Promise<Reply> {
  const answer = await request(url, {
    method,
    headers,
    headersTimeout: 60_000,
    ...(body === undefined ? {} : { body }),
  });
  return {
    status: answer.statusCode,
    headers: answer.headers,
    bytes: Buffer.from(await answer.body.arrayBuffer()),
  };
}

export function basicOf({ username, password }: TestUser): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/** What a 401 asks for. */
export function challengeOf(reply: Reply): { scheme: string; params: ReadonlyMap<string, string> } {
  const [challenge] = parseChallenges(reply.headers['www-authenticate']);
  if (challenge === undefined) throw new Error(`no challenge in a ${reply.status}`);
  return challenge;
}

/** The `Authorization` that a challenge leads to: Basic, or a token fetched as docker does. */
export async function authorizationFor(reply: Reply, user: TestUser | undefined): Promise<string> {
  const { scheme, params } = challengeOf(reply);
  if (scheme === 'basic') return basicOf(user!);
  const url = new URL(params.get('realm')!);
  for (const key of ['service', 'scope']) if (params.has(key)) url.searchParams.append(key, params.get(key)!);
  const given = await ask(String(url), user === undefined ? {} : { authorization: basicOf(user) });
  if (given.status !== 200)
    throw new Error(`token: ${given.status} ${given.bytes.toString('utf8').slice(0, 200)}`);
  return `Bearer ${(JSON.parse(given.bytes.toString('utf8')) as { token: string }).token}`;
}

/** A request as clients do it: without credentials, then once more as the challenge asks. */
export async function askAs(
  user: TestUser | undefined,
  url: string,
  method: 'GET' | 'HEAD' = 'GET',
): Promise<Reply & { authorization?: string }> {
  const first = await ask(url, {}, method);
  if (first.status !== 401 || first.headers['www-authenticate'] === undefined) return first;
  const authorization = await authorizationFor(first, user).catch(() => undefined);
  if (authorization === undefined) return first;
  return { ...(await ask(url, { authorization }, method)), authorization };
}
