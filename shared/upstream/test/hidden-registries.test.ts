import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t, { type Test } from 'tap';
import { NO_CHALLENGE_MS, TOKEN_FRESH_MS } from '../src/deadlines/upstreams.ts';
import { clientOf, failure, reference, REPOSITORY as repository, soon } from './client-fixture.ts';

const MANIFEST = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [] }));
const V1 = { repository, reference: reference('v1') };
const credentials = { username: 'u', password: 'p' };
const BASIC = `Basic ${Buffer.from('u:p').toString('base64')}`;

interface Manners {
  /** What whoever may not read is told of an item. */
  readonly status: number;
  /** `Authorization` that opens it; `token` gives it for the password. */
  readonly opens: (authorization: string | undefined) => boolean;
  /** What `/v2/` asks of strangers. */
  readonly asks?: 'basic' | 'bearer' | undefined;
  readonly token?: (authorization: string | undefined) => string;
  /** Where it leads whoever asks for an item. */
  readonly leads?: string;
  /** What `/v2/` and `/token` answer instead, at the moment. */
  readonly busy?: (pathname: string) => number | undefined;
}

/** A registry that says of its items nothing of how to log in. */
async function hidden(t: Test, manners: Manners): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const serve = (req: IncomingMessage, res: ServerResponse): unknown => {
    const { pathname } = new URL(req.url!, url);
    const { authorization } = req.headers;
    asked.push(pathname);
    const busy = manners.busy?.(pathname);
    if (busy !== undefined) return res.writeHead(busy).end();
    if (pathname === '/token')
      return res.end(JSON.stringify({ token: manners.token?.(authorization), expires_in: 3_000 }));
    if (manners.leads !== undefined && pathname !== '/v2/')
      return res.writeHead(307, { location: manners.leads + pathname }).end();
    if (manners.opens(authorization)) {
      res.writeHead(200, { 'content-type': OCI_MANIFEST, 'docker-content-digest': digestOf(MANIFEST) });
      return res.end(MANIFEST);
    }
    if (pathname !== '/v2/') return res.writeHead(manners.status).end();
    const bearer = `Bearer realm="${url}/token",service="x",scope="registry:catalog:*"`;
    const challenge = manners.asks === 'basic' ? 'Basic realm="x"' : bearer;
    if (manners.asks === undefined) return res.writeHead(200).end('{}');
    return res.writeHead(401, { 'www-authenticate': challenge }).end();
  };
  const server = createServer((req, res) => serve(req, res));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url, asked };
}

t.test('who hides what is private from strangers is asked at /v2/ how to log in, once', async (t) => {
  for (const status of [401, 403, 404]) {
    const basic = await hidden(t, { status, asks: 'basic', opens: (sent) => sent === BASIC });
    const client = clientOf(t, basic.url, { credentials });
    for (let round = 0; round < 2; round++)
      t.equal((await client.getManifest(V1, soon())).digest, digestOf(MANIFEST), `basic, ${status}`);
    t.equal(basic.asked.filter((path) => path === '/v2/').length, 1);
    const bearer = await hidden(t, {
      status,
      asks: 'bearer',
      opens: (sent) => sent === 'Bearer good',
      token: (sent) => (sent === BASIC ? 'good' : 'bad'),
    });
    const other = clientOf(t, bearer.url, { credentials });
    t.equal((await other.getManifest(V1, soon())).digest, digestOf(MANIFEST), `bearer, ${status}`);
  }
});

t.test('a stranger gets a token where a 401 does not say who gives them', async (t) => {
  const opens = (sent: string | undefined): boolean => sent === 'Bearer anybody';
  const { url } = await hidden(t, { status: 401, asks: 'bearer', opens, token: () => 'anybody' });
  t.equal((await clientOf(t, url).getManifest(V1, soon())).digest, digestOf(MANIFEST));
});

t.test('what is not there is not there, and who asks for nothing is not asked each time', async (t) => {
  let nowMs = 0;
  const { url, asked } = await hidden(t, { status: 404, opens: () => false });
  const client = clientOf(t, url, { credentials, nowMs: () => nowMs });
  const bases = (): number => asked.filter((path) => path === '/v2/').length;
  for (let round = 0; round < 3; round++) await failure(client.getManifest(V1, soon()), 'MANIFEST_UNKNOWN');
  t.equal(bases(), 1);
  nowMs += NO_CHALLENGE_MS;
  await failure(client.getManifest(V1, soon()), 'MANIFEST_UNKNOWN');
  t.equal(bases(), 2);
  const stranger = await hidden(t, { status: 404, asks: 'basic', opens: () => false });
  await failure(clientOf(t, stranger.url).getManifest(V1, soon()), 'MANIFEST_UNKNOWN');
  t.notOk(stranger.asked.includes('/v2/'), 'who has no password');
  const away = await hidden(t, { status: 404, asks: 'bearer', opens: () => false, token: () => '' });
  await failure(clientOf(t, away.url, { credentials }).getManifest(V1, soon()), 'BACKEND_DOWN');
});

t.test('what is hidden is not taken for gone while nobody can log in', async (t) => {
  for (const [path, status] of [
    ['/v2/', 404],
    ['/v2/', 403],
    ['/token', 404],
    ['/token', 403],
  ] as const) {
    let isBusy = true;
    const { url } = await hidden(t, {
      status,
      asks: 'bearer',
      opens: (sent) => sent === 'Bearer good',
      token: () => 'good',
      busy: (pathname) => (isBusy && pathname === path ? 503 : undefined),
    });
    const client = clientOf(t, url, { credentials });
    for (let round = 0; round < 2; round++) await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
    isBusy = false;
    t.equal((await client.getManifest(V1, soon())).digest, digestOf(MANIFEST), `${path}, ${status}`);
  }
});

t.test('nor is it while the token that opened it has ended and no other is given', async (t) => {
  let nowMs = 0;
  let isBusy = false;
  const { url } = await hidden(t, {
    status: 404,
    asks: 'bearer',
    opens: (sent) => sent === 'Bearer good',
    token: () => 'good',
    busy: (pathname) => (isBusy && pathname === '/token' ? 503 : undefined),
  });
  const client = clientOf(t, url, { credentials, nowMs: () => nowMs });
  await client.getManifest(V1, soon());
  isBusy = true;
  nowMs += 3_600_000;
  for (let round = 0; round < 2; round++) await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
});

t.test('what a registry asks for is not brought to where it leads', async (t) => {
  const elsewhere = await hidden(t, { status: 401, opens: () => false });
  const manners = { status: 401, asks: 'bearer', opens: () => false, token: () => 'of here' } as const;
  const { url, asked } = await hidden(t, { ...manners, leads: elsewhere.url });
  const blob = clientOf(t, url, { credentials }).getBlob({ repository, digest: digestOf(MANIFEST) }, soon());
  await failure(blob, 'BACKEND_DOWN');
  t.notOk(asked.includes('/v2/') || asked.includes('/token'), 'it is not asked for a token');
});

t.test('a 403 to a password that has ended: the next one of its source is shown', async (t) => {
  let valid = 'old';
  let known: string | undefined;
  const basicOf = (password: string): string => `Basic ${Buffer.from(`AWS:${password}`).toString('base64')}`;
  const { url } = await hidden(t, { status: 403, asks: 'basic', opens: (sent) => sent === basicOf(valid) });
  const source = {
    current: () => {
      known ??= valid;
      return Promise.resolve({ username: 'AWS', password: known });
    },
    refused: () => {
      known = undefined;
    },
  };
  const client = clientOf(t, url, { identity: { credentials: source } });
  await client.getManifest(V1, soon());
  valid = 'new';
  t.equal((await client.getManifest(V1, soon())).digest, digestOf(MANIFEST));
});

t.test('a 403 to an old token is asked about with a new one, to a fresh one it counts', async (t) => {
  let nowMs = 0;
  let given = 0;
  let valid = 1;
  const { url, asked } = await hidden(t, {
    status: 403,
    asks: 'bearer',
    opens: (sent) => sent === `Bearer t${valid}`,
    token: () => `t${++given}`,
  });
  const client = clientOf(t, url, { credentials, nowMs: () => nowMs });
  await client.getManifest(V1, soon());
  nowMs += TOKEN_FRESH_MS + 1;
  valid = 2;
  t.equal((await client.getManifest(V1, soon())).digest, digestOf(MANIFEST));
  valid = 9;
  asked.length = 0;
  await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
  t.equal(asked.length, 1, 'no more is asked');
});
