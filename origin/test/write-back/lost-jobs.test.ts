import { randomBytes } from 'node:crypto';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { Hub, until } from '../support/hub.ts';

/** Takes jobs out of every origin's queue, as if they had never been there. */
async function loseJobs(hub: Hub): Promise<void> {
  const lost = await hub.jobs();
  const jobs = lost.map(({ upstream, repository, id }) => ({ upstream, repository, id, atMs: Date.now() }));
  for (const id of hub.c.origins.keys()) {
    const body = Buffer.from(JSON.stringify({ jobs }));
    const { status } = await hub.c.put(id, '/v1/replication/jobs', body);
    if (status !== 200) throw new Error(`jobs: ${status}`);
  }
}

function refusing(hub: Hub): void {
  hub.target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status: 503 } : undefined);
}

// Clusters of their own, which wait most of the time.
t.jobs = 2;

t.test('a tag that is owed and has no job is given one: when it goes, and at the start', async (t) => {
  const hub = await Hub.start(t);
  refusing(hub);
  const first = await hub.image('team/app', 'v1');
  await loseJobs(hub);
  await until(async () => (await hub.jobs()).some(({ reference }) => reference === 'v1'), 'it has one again');
  await loseJobs(hub);
  for (const id of hub.c.ids) await hub.c.stop(id);
  for (const id of hub.c.ids) await hub.c.start(id);
  hub.target.fault = () => undefined;
  await until(() => hub.target.manifests.get('team/app:v1') === first, 'it is brought there');
  await hub.drained();
});

t.test('lists of tags that wait go on page by page to their end', async (t) => {
  const hub = await Hub.start(t);
  refusing(hub);
  const bytes = randomBytes(100);
  for (const tag of ['v1', 'v2', 'v3']) await hub.image('team/app', tag, bytes);
  const list = async (query: string): Promise<unknown> => {
    const path = `/v1/tags?upstream=hub&repository=team/app&${query}`;
    return (JSON.parse((await hub.call('GET', path)).bytes.toString()) as { tags: unknown }).tags;
  };
  t.same(await list('n=2'), ['v1', 'v2']);
  t.same(await list('n=2&last=v2'), ['v3']);
  t.same(await list('n=2&last=v3'), [], 'the registry does not know the repository yet');
});

t.test('where nothing is deleted a push is given up by a word of its own', async (t) => {
  const hub = await Hub.start(t, { deletes: false });
  const before = hub.direct('team/app', 'v1');
  hub.target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status: 412 } : undefined);
  await hub.image('team/app', 'v1');
  await hub.image('team/new', 'v1');
  const byDigest = await hub.image('team/app');
  await until(async () => {
    const jobs = await hub.jobs();
    return jobs.length > 0 && jobs.every(({ state }) => state === 'dead');
  }, 'the registry takes none of them');
  t.equal(
    (await hub.call('DELETE', '/v1/manifests?upstream=hub&repository=team/app&reference=v1')).status,
    405,
  );
  await t.rejects(hub.retry({ take: 'drop' }), /take: drop is for one job/);
  for (const id of new Set((await hub.jobs()).map((job) => job.id)))
    await hub.retry({ job: id, take: 'drop' });
  await hub.drained();
  t.match(await hub.tag('team/app', 'v1'), { status: 200, digest: before }, 'what the registry has');
  t.match(await hub.tag('team/new', 'v1'), { status: 404 });
  t.match(await hub.tag('team/app', byDigest), { status: 200 }, 'its content is still here');
});

t.test('an upstream whose pushes wait keeps its mode: another one is refused at the start', async (t) => {
  const target = await TestTarget.start(t);
  const hub = { name: 'hub', url: target.url, access: 'cluster' };
  const c = await startCluster(t, { origins: 1, upstreams: [{ ...hub, mode: 'write-back' }] });
  const one = new Hub(target, c);
  await target.down();
  const pushed = await one.image('team/app', 'v1');
  await c.stop('o1');
  for (const [upstreams, why] of [
    [
      [{ ...hub, mode: 'pull-through' }],
      /hub: has mode pull-through, but pushes wait .*team\/app.*write-back drain hub/,
    ],
    [[], /hub: is gone from the cluster document, but pushes wait/],
  ] as const) {
    c.upstreams(upstreams);
    await t.rejects(c.start('o1'), { code: 'CONFIG_INVALID', message: why });
  }
  c.upstreams([{ ...hub, mode: 'write-back' }]);
  await target.up();
  await (await c.start('o1')).whenSettled();
  await until(() => target.manifests.get('team/app:v1') === pushed, 'with its mode it goes on');
  await one.drained();
  await c.stop('o1');
  c.upstreams([{ ...hub, mode: 'pull-through' }]);
  await c.start('o1');
});

t.test('another url is refused while pushes wait for the one of before, and a way on is named', async (t) => {
  const [before, after] = [await TestTarget.start(t), await TestTarget.start(t)];
  const hub = { name: 'hub', mode: 'write-back', access: 'cluster' };
  const c = await startCluster(t, { origins: 1, upstreams: [{ ...hub, url: before.url }] });
  const one = new Hub(before, c);
  await before.down();
  const pushed = await one.image('team/app', 'v1');
  await c.stop('o1');
  const moved = { ...hub, url: after.url };
  c.upstreams([moved]);
  const message = new RegExp(
    `hub: url is ${after.url}/, but pushes wait for ${before.url}/ .*team/app: v1.*drain hub.*moved-from`,
  );
  await t.rejects(c.start('o1'), { code: 'CONFIG_INVALID', message });
  c.upstreams([{ ...moved, 'write-back': { 'moved-from': 'http://other.test' } }]);
  await t.rejects(c.start('o1'), { code: 'CONFIG_INVALID', message });
  c.upstreams([{ ...moved, 'write-back': { 'moved-from': before.url } }]);
  await (await c.start('o1')).whenSettled();
  await until(() => after.manifests.get('team/app:v1') === pushed, "by the operator's word it goes there");
  await one.drained();
  await c.stop('o1');
  await before.up();
  c.upstreams([{ ...hub, url: before.url }]);
  await (await c.start('o1')).whenSettled();
  t.pass('nothing waits: any url is taken');
});
