import { guardOf, OPEN_ROUTES } from '@sepia/http/open-routes';
import { mayStream } from '@sepia/http/signed';
import t from 'tap';
import { ORIGIN_BLOBS, ORIGIN_NAMES, ORIGIN_RECORDS } from '../../src/api/origin.ts';
import { PROXY } from '../../src/api/proxy.ts';
import { headTo, type Route, route, to } from '../../src/api/route.ts';
import { TRACKER } from '../../src/api/tracker.ts';

const LISTENERS: Readonly<Record<'origin' | 'tracker' | 'proxy', readonly Route[]>> = {
  origin: Object.values({ ...ORIGIN_BLOBS, ...ORIGIN_NAMES, ...ORIGIN_RECORDS }),
  tracker: Object.values(TRACKER),
  proxy: Object.values(PROXY),
};
const NAME = { upstream: 'hub', repository: 'team/app', digest: 'sha256:ab' };

t.test('a call has the method, the path filled, and the query in the order of its route', async (t) => {
  t.same(to(ORIGIN_BLOBS.where, NAME), {
    method: 'GET',
    path: '/v1/blobs/sha256:ab/where?upstream=hub&repository=team%2Fapp',
  });
  t.equal(
    to(ORIGIN_BLOBS.metainfo, { from: 0, fetch: true, wait: undefined, ...NAME }).path,
    '/v1/blobs/sha256:ab/metainfo?upstream=hub&repository=team%2Fapp&fetch=1&from=0',
  );
  t.equal(
    to(ORIGIN_NAMES.manifestPut, { ...NAME, reference: 'v1', tag: ['a', 'b'] }).path,
    '/v1/manifests?upstream=hub&repository=team%2Fapp&reference=v1&tag=a&tag=b',
  );
  t.same(headTo(ORIGIN_RECORDS.cluster), { method: 'HEAD', path: '/v1/cluster' });
});

t.test('what stands in a path or query cannot leave its place', async (t) => {
  const line = route('x', 'POST /v1/x/:id/:verb', { query: ['n?'], callers: [] });
  t.equal(
    to(line, { id: '../a?b#c', verb: 'y/z', n: 'a&b=c d' }).path,
    '/v1/x/..%2Fa%3Fb%23c/y%2Fz?n=a%26b%3Dc+d',
  );
});

t.test('false and undefined are not sent, true is 1', async (t) => {
  const line = route('x', 'GET /v1/x', { query: ['a?', 'b?', 'c?'], callers: [] });
  t.equal(to(line, { a: false, b: true, c: undefined }).path, '/v1/x?b=1');
  t.equal(to(line).path, '/v1/x');
});

for (const [role, routes] of Object.entries(LISTENERS)) {
  t.test(`${role}: each route is there once, below /v1, and closed to strangers`, async (t) => {
    const lines = routes.map(({ method, path }) => `${method} ${path}`);
    t.same(lines, [...new Set(lines)]);
    const names = routes.map(({ name }) => name);
    t.same(names, [...new Set(names)]);
    for (const { path } of routes) {
      t.match(path, /^\/v1\/[a-z]/);
      t.equal(guardOf(OPEN_ROUTES[role as keyof typeof LISTENERS], path), undefined, path);
    }
  });

  t.test(`${role}: exactly the bodies that may be streamed are signed by their length`, async (t) => {
    for (const { method, path, body } of routes)
      t.equal(mayStream(method, path.replace(/:\w+/g, 'x')), body.kind === 'stream', `${method} ${path}`);
  });
}
