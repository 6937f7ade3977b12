import { randomBytes } from 'node:crypto';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { guardOf, OPEN_ROUTES } from '@sepia/http/open-routes';
import type { RouteLine } from '@sepia/http/router';
import { rawHttp } from '@sepia/test-support/clients/raw-http';
import { pullUntilGiven, pushUntilTaken, randomImage } from '@sepia/test-support/clients/registry-client';
import { startAccelerator } from '@sepia/test-support/cluster/accelerator';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';
import { request } from 'undici';

const REFUSALS = [400, 401, 403, 404, 405];
const QUERY = '?upstream=local&repository=team/app&reference=v1';
const AT_ONCE = 32;
/** An answer ends its connection; only a member that says nothing is waited for this long. */
const QUIET_MS = 30_000;

/** Ways to write one path that some router, proxy or check may read as the same. */
function spellings(path: string, host = 'x'): string[] {
  const [, first = '', rest = ''] = /^\/([^/]*)(.*)$/.exec(path) ?? [];
  const last = path.slice(path.lastIndexOf('/') + 1);
  const front = path.slice(0, path.length - last.length);
  return [
    `/${first.toUpperCase()}${rest}`,
    path.toUpperCase(),
    `/${path}`,
    `//x${path}`,
    path.replaceAll('/', '//'),
    `/.${path}`,
    `/x/..${path}`,
    `/v2/..${path}`,
    `/v2/%2e%2e${path}`,
    `/ui/../${path.slice(1)}`,
    `/%2e${path}`,
    `/%2f${path}`,
    `/%2f${path.slice(1)}`,
    `/${first}%2f${rest.slice(1)}`,
    `/${first};${rest}`,
    `/${first}${rest};a=b`,
    `/;${path}`,
    `${path}/`,
    `${path}//`,
    `${path}/.`,
    `${path}%20`,
    `${path}%00`,
    `${path}.json`,
    `${front}%${last.charCodeAt(0).toString(16)}${last.slice(1)}`,
    `/%${first.charCodeAt(0).toString(16)}${first.slice(1)}${rest}`,
    `\\${path.slice(1)}`,
    `/\\${path}`,
    `http://${host}${path}`,
    `HTTP://${host.toUpperCase()}${path}`,
    `http://${host}@127.0.0.1${path}`,
    `http://${host}/v2/..${path}`,
    `ftp://${host}${path}`,
    path.slice(1),
  ].map((one) => one.replaceAll(' ', '%20'));
}

const HEADERS = [
  'X-HTTP-Method-Override: DELETE',
  'X-HTTP-Method: PUT',
  'X-Original-URL: /v2/\r\nX-Rewrite-URL: /v2/',
  'X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=127.0.0.1',
  'Sepia-Upstream: local\r\nSepia-Hop: 1',
  'Authorization: Sepia',
  'Authorization: sepia v=1,id=origin-1,date=0,nonce=0,sig=0',
  'Authorization: Basic b3JpZ2luLTE6eA==',
  'Upgrade: websocket\r\nConnection: Upgrade',
];

function headOf(verb: string, target: string, more = 'Host: x\r\n', version = '1.1'): string {
  return `${verb} ${target}${QUERY} HTTP/${version}\r\nConnection: close\r\nContent-Length: 0\r\n${more}\r\n`;
}

/** Requests for one route as a stranger would write them. */
function* tries({ method, path }: RouteLine, host = 'x'): Generator<string> {
  const head = (verb: string, target: string, more = '', version = '1.1'): string =>
    headOf(verb, target, `Host: ${host}\r\n${more}`, version);
  for (const one of [path, ...spellings(path, host)]) yield head(method, one);
  for (const verb of ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND'])
    yield head(verb, path);
  for (const more of HEADERS) yield head(method, path, `${more}\r\n`);
  yield head(method, path, '', '1.0');
  yield head('POST', path, `X-HTTP-Method-Override: ${method}\r\n`);
}

t.test('no internal route answers a stranger, however it is written', async (t) => {
  const dir = t.testdir({ 'node-secret': randomBytes(32).toString('hex') });
  const secret = join(dir, 'node-secret');
  chmodSync(secret, 0o600);
  await using cluster = await Constellation.start(join(dir, 'cluster'), {
    origins: 3,
    proxies: 1,
    agents: 1,
    agent: { 'node-secret-file': secret },
  });
  const proxy = cluster.proxyUrls[0]!;
  const image = randomImage([200_000]);
  await pushUntilTaken(() => proxy, 'team/app', 'v1', image);
  const accelerator = await startAccelerator(cluster, dir, 'accelerator-1');
  await using stops = new AsyncDisposableStack();
  stops.defer(() => accelerator.stop());
  const members: Record<string, { readonly url: string; readonly admin: string }> = {
    'origin-1': { url: cluster.originUrls[0]!, admin: cluster.adminUrl('origin-1') },
    'tracker-1': { url: cluster.trackerUrls[0]!, admin: cluster.adminUrl('tracker-1') },
    'proxy-1': { url: proxy, admin: cluster.adminUrl('proxy-1') },
    'agent-1': { url: cluster.agents[0]!.url, admin: cluster.adminUrl('agent-1') },
    'accelerator-1': { url: accelerator.url, admin: accelerator.adminUrl },
  };
  const filled = ({ method, path }: RouteLine): RouteLine => ({
    method,
    path: path.replace(/:\w+/g, (name) => (name === ':digest' ? image.layers[0]!.digest : 'agent-1')),
  });
  const answer = async (url: string): Promise<string> => await (await request(url)).body.text();
  let inside = 0;

  for (const [id, { url, admin }] of Object.entries(members)) {
    const role = id.slice(0, -2) as 'origin' | 'tracker' | 'proxy' | 'agent' | 'accelerator';
    const open = OPEN_ROUTES[role];
    const listed = JSON.parse(await answer(`${admin}/debug/routes`)) as Record<string, RouteLine[]>;
    const closed = listed['main']!.map(filled).filter(({ path }) => guardOf(open, path) === undefined);
    inside += closed.length;
    const before = await ranRoutes(admin);
    const requests = closed.flatMap((route) => [...tries(route)].map((text) => ({ url, text })));
    await inParallel(requests, async (one) => {
      const { statuses } = await rawHttp(one.url, one.text, QUIET_MS);
      if (statuses.length !== 1 || !REFUSALS.includes(statuses[0]!))
        t.fail(`${id}: ${statuses} for ${JSON.stringify(one.text)}`);
    });
    t.same(await ranRoutes(admin), before, `${id}: ${requests.length} requests reached no route`);
    if (role === 'agent')
      t.ok(
        closed.some(({ path }) => path.startsWith('/v1/')),
        'the snapshotter has routes here',
      );
    for (const { method, path } of closed) {
      const { statuses } = await rawHttp(admin, headOf(method, path), QUIET_MS);
      t.ok(REFUSALS.includes(statuses[0]!), `${id}, admin: ${statuses} for ${method} ${path}`);
    }
  }
  t.ok(inside > 50, `${inside} internal routes were found`);

  await t.test('open routes are open under their own spelling only', async (t) => {
    for (const path of ['/v2/team/app/manifests/v1', '/token', '/health', '/ui/state']) {
      for (const one of spellings(path).filter((each) => !/^http:\/\//i.test(each))) {
        const text = `GET ${one} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
        const { statuses } = await rawHttp(proxy, text, QUIET_MS);
        const odd = one.startsWith('/v2/') || one.startsWith('/ui/');
        t.ok(odd || REFUSALS.includes(statuses[0]!), `${one}: ${statuses}`);
        t.notOk(odd && statuses[0]! >= 500, `${one}: ${statuses}`);
      }
    }
  });
  await t.test('what is for this machine is for no web page, at any admin listener', async (t) => {
    for (const [id, { admin }] of Object.entries(members)) {
      const listed = JSON.parse(await answer(`${admin}/debug/routes`)) as Record<string, RouteLine[]>;
      const inner = listed['admin']!.filter(({ path }) => guardOf(OPEN_ROUTES.admin, path) !== 'anyone');
      t.ok(inner.length > 0, `${id} has some`);
      const asked = inner.flatMap(({ method, path }) => [
        ...tries({ method, path: path.replace(':name', 'routes') }, 'page.example'),
      ]);
      await inParallel(asked, async (text) => {
        const { statuses } = await rawHttp(admin, text, QUIET_MS);
        if (statuses.length !== 1 || ![...REFUSALS, 421].includes(statuses[0]!))
          t.fail(`${id}, admin: ${statuses} for ${JSON.stringify(text)}`);
      });
    }
  });
  t.ok((await pullUntilGiven(cluster.agents[0]!.url, 'team/app', 'v1')) > 0, 'the cluster is as it was');
});

/** Refusals that a named route gave: at the gate no request has a route yet. Calls between members succeed. */
async function ranRoutes(admin: string): Promise<string[]> {
  const text = await (await request(`${admin}/metrics`)).body.text();
  return text
    .split('\n')
    .filter((line) => /_http_request_seconds_count\{.*status="4\d\d"/.test(line))
    .filter((line) => !line.includes('route="other"'));
}

async function inParallel<T>(list: readonly T[], run: (one: T) => Promise<void>): Promise<void> {
  const rest = list.values();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const one of rest) await run(one);
    }),
  );
}
