import { hashOf, signCall } from '@sepia/http/sign';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { ask } from '../support/client.ts';
import { startCluster } from '../support/fake-cluster.ts';

t.test('the page is three files of our own under a strict policy', async (t) => {
  const { proxies } = await startCluster(t);
  const { url } = proxies[0]!;
  for (const [path, type] of [
    ['/ui/', 'text/html'],
    ['/ui/style.css', 'text/css'],
    ['/ui/app.js', 'text/javascript'],
  ] as const) {
    const answer = await ask(url + path);
    t.equal(answer.status, 200, path);
    t.match(answer.headers['content-type'], new RegExp(`^${type}`), path);
    t.match(answer.headers['content-security-policy'], /^default-src 'none'/, path);
    t.equal(answer.headers['x-content-type-options'], 'nosniff', path);
    t.notMatch(
      answer.text,
      /https?:\/\/|innerHTML|insertAdjacentHTML|document\.write|eval\(| on[a-z]+=/,
      `${path}: nothing from outside, no markup from data`,
    );
  }
  t.equal((await ask(`${url}/ui`)).headers.location, '/ui/');
  t.equal((await ask(`${url}/ui/../src/main.ts`)).status, 404);
  t.equal((await ask(`${url}/ui/%2e%2e/main.ts`)).status, 404);
  t.equal((await ask(`${url}/ui/state`, 'POST')).status, 405);
});

t.test('its data names members and whether they answer, and no secret', async (t) => {
  const { proxies, origins, key } = await startCluster(t);
  const { url } = proxies[0]!;
  const members = async (): Promise<{ id: string; up: boolean }[]> =>
    JSON.parse((await ask(`${url}/ui/state`)).text).members;
  t.same(
    (await members()).map(({ id, up }) => [id, up]),
    [
      ['origin-1', true],
      ['origin-2', true],
      ['origin-3', true],
      ['proxy-1', true],
    ],
  );
  const text = (await ask(`${url}/ui/state`)).text;
  t.notOk(text.includes(Buffer.from(key).toString('hex')), 'not the cluster key');
  t.notMatch(text, /127\.0\.0\.1/, 'no addresses');
  origins[1]!.freeze();
  const isDown = async (): Promise<boolean> => !(await members()).find(({ id }) => id === 'origin-2')!.up;
  await until(isDown, 'a silent member is shown as down');
  const startedMs = performance.now();
  await members();
  t.ok(performance.now() - startedMs < 5_000, 'a silent member does not hold it up');
});

t.test('many viewers cost as much as one', async (t) => {
  const { proxies, origins } = await startCluster(t);
  const { url } = proxies[0]!;
  const startedMs = performance.now();
  await Promise.all(Array.from({ length: 50 }, () => ask(`${url}/ui/state`)));
  // A view is handed out for 300 ms: a slow machine asks more often, but never more than once in that time.
  const most = 1 + Math.ceil((performance.now() - startedMs) / 300);
  const asked = origins[0]!.calls.filter((call) => call === 'GET /v1/status').length;
  t.ok(asked >= 1 && asked <= most, `asked ${asked} times, ${most} at most`);
});

t.test('members get the same by a signed call only', async (t) => {
  const { proxies, key } = await startCluster(t);
  const { url } = proxies[0]!;
  t.equal((await ask(`${url}/v1/status`)).status, 403);
  const path = '/v1/status?self=1';
  const authorization = signCall(
    { clusterKey: key, id: 'proxy-2' },
    'proxy-1',
    { method: 'GET', path, headers: {}, body: hashOf('') },
    Date.now(),
  );
  const answer = await ask(url + path, 'GET', { headers: { authorization } });
  t.equal(answer.status, 200);
  t.equal(answer.headers['sepia-cluster'], '7');
  t.same(Object.keys(JSON.parse(answer.text)), ['id', 'version', 'uptimeSeconds']);
});

t.test('health paths answer 200', async (t) => {
  const { proxies } = await startCluster(t);
  for (const path of ['/health', '/readiness', '/healthy'])
    await until(async () => (await ask(proxies[0]!.url + path)).status === 200, path);
  t.equal((await ask(`${proxies[0]!.url}/oapi/v1/jobs`, 'POST')).status, 404);
  t.equal((await ask(`${proxies[0]!.url}/registry/notifications`, 'POST')).status, 404);
});
