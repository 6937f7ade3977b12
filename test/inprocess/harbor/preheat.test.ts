import { digestOf } from '@sepia/base/digest';
import type { ConversionJob } from '@sepia/cluster/api/conversions';
import { OCI_INDEX } from '@sepia/oci/manifest';
import { pullUntilGiven } from '@sepia/test-support/clients/registry-client';
import { Constellation, type ConstellationOptions } from '@sepia/test-support/cluster/constellation';
import { LogLines } from '@sepia/test-support/log-lines';
import { until } from '@sepia/test-support/until';
import {
  type FakeImage,
  FakeUpstream,
  makeImage,
  makeIndex,
} from '@sepia/test-support/upstream/fake-upstream';
import {
  call,
  jobBody,
  jobEnd,
  krakenBody,
  runJob,
  sent,
  viewOf,
} from '@sepia/test-support/upstream/harbor-calls';
import t, { type Test } from 'tap';

const KIB = 1024;
const MIB = 1024 * KIB;

interface Here {
  readonly cluster: Constellation;
  readonly harbor: FakeUpstream;
  readonly other: FakeUpstream;
  readonly log: LogLines;
  /** Another proxy at each call. */
  readonly next: () => string;
}

/** 7 origins, 3 proxies, 2 upstreams: `harbor.test` and another. */
async function setUp(t: Test, options: ConstellationOptions = {}, auth = {}): Promise<Here> {
  const harbor = await FakeUpstream.start(auth);
  const other = await FakeUpstream.start();
  t.teardown(() => Promise.all([harbor.stop(), other.stop()]));
  const log = new LogLines();
  const cluster = await Constellation.start(t.testdir(), {
    origins: 7,
    proxies: 3,
    agents: 0,
    log: log.logger,
    upstreams: [
      { name: 'other', url: other.url, mode: 'pull-through' },
      { name: 'harbor', url: harbor.url, mode: 'pull-through', hosts: ['harbor.test'] },
    ],
    ...options,
    proxy: {
      ...options.proxy,
      harbor: { 'driver-auth': { mode: 'none' }, ...Object(options.proxy?.['harbor']) },
    },
  });
  t.teardown(() => cluster.stop());
  let turn = 0;
  return { cluster, harbor, other, log, next: () => cluster.proxyUrls[turn++ % cluster.proxyUrls.length]! };
}

/** Origins that have a blob on disk. */
async function holders(here: Here, repository: string, digest: string): Promise<string[]> {
  const found: string[] = [];
  for (const [index, url] of here.cluster.originUrls.entries()) {
    const path = `/v1/blobs/${digest}/where?upstream=harbor&repository=${encodeURIComponent(repository)}`;
    const { state } = await here.cluster.ask<{ state: string }>(url, path);
    if (state === 'final') found.push(`origin-${index + 1}`);
  }
  return found;
}

const blobsOf = (image: FakeImage): string[] => [...image.blobs.keys()];
/** GETs of blobs at the registry, by digest. */
const fetchesOf = (here: Here, digest: string): number =>
  here.harbor.requests('blob', 'GET').filter(({ path }) => path.endsWith(digest)).length;

t.test('health of both drivers, at the root and under their own prefixes', async (t) => {
  const here = await setUp(t);
  for (const path of ['/health', '/healthy', '/readiness', '/kraken/health', '/dragonfly/healthy', '/_ping'])
    await until(async () => (await call('GET', `${here.next()}${path}`)).status === 200, path);
  t.equal((await sent('GET', () => `${here.next()}/kraken/other`)).status, 404);
  t.equal((await sent('GET', () => `${here.next()}/oapi/v1/jobs`)).status, 405);
});

t.test('kraken: 200 only when the origins have every blob of every child of the index', async (t) => {
  const here = await setUp(t);
  const index = makeIndex({ layers: [300 * KIB, 2 * MIB], seed: 'k1' });
  const digest = here.harbor.push('library/busybox', index, 'latest');
  const body = krakenBody('harbor.test', 'library/busybox', digest, 'latest');
  const answer = await sent('POST', () => `${here.next()}/registry/notifications`, body);
  t.equal(answer.status, 200, answer.text);
  const blobs = index.images.flatMap(blobsOf);
  for (const blob of blobs) t.equal((await holders(here, 'library/busybox', blob)).length, 1, blob);
  const before = here.harbor.blobBytes;
  for (let count = 0; count < 3; count++) {
    const again = await sent('POST', () => `${here.next()}/kraken/registry/notifications`, body);
    t.equal(again.status, 200, 'duplicate deliveries are normal');
  }
  t.equal(here.harbor.blobBytes, before, 'nothing is fetched twice');
});

t.test('kraken: many at once are one; keys of distribution; events that are no push', async (t) => {
  const here = await setUp(t);
  const image = makeImage({ layers: [3 * MIB], seed: 'k2' });
  const digest = here.harbor.push('library/app', image, 'v1');
  const camel = JSON.parse(
    JSON.stringify(krakenBody('harbor.test', 'library/app', digest, 'v1')).replaceAll(
      /"([A-Z])(\w*)":/g,
      (_all, first: string, rest: string) => `"${first.toLowerCase()}${rest}":`,
    ),
  ) as { events: object[] };
  const answers = await Promise.all(
    Array.from({ length: 9 }, () => sent('POST', () => `${here.next()}/registry/notifications`, camel)),
  );
  t.same(
    answers.map(({ status }) => status),
    Array.from({ length: 9 }, () => 200),
  );
  t.equal(fetchesOf(here, image.layers[0]!), 1);
  const pull = { events: [{ ...camel.events[0], action: 'pull' }] };
  t.equal((await sent('POST', () => `${here.next()}/registry/notifications`, pull)).status, 200);
});

t.test('kraken: failures are ≥ 400 with a short text, and never 208', async (t) => {
  const here = await setUp(t, { origin: { deadlines: { 'fetch-progress': '1s', 'first-byte': '1s' } } });
  const send = (body: unknown) => call('POST', `${here.next()}/registry/notifications`, body);
  const image = makeImage({ layers: [100 * KIB], seed: 'k3' });
  const digest = here.harbor.push('library/app', image, 'v1');
  const unknownHost = await send(krakenBody('evil.test', 'library/app', digest, 'v1'));
  t.equal(unknownHost.status, 404);
  t.match(unknownHost.text, /no upstream answers to evil\.test/);
  const absent = await send(krakenBody('harbor.test', 'library/none', digest, 'v1'));
  t.equal(absent.status, 404, absent.text);
  for (const bad of ['{', '[]', '{"Events":1}', '{"Events":[{}]}', '{"Events":[{"Action":"push"}]}'])
    t.equal((await send(bad)).status, 400, bad);
  here.harbor.misbehave({ kind: 'blob', does: { type: 'status', status: 500 } });
  const broken = await send(krakenBody('harbor.test', 'library/app', digest, 'v1'));
  t.ok(broken.status >= 500, broken.text);
  t.match(broken.text, /not stored/);
  t.ok(broken.text.length < 2_000);
});

t.test('kraken: answered early where so configured', async (t) => {
  const here = await setUp(t, { proxy: { harbor: { kraken: { answer: 'accepted' } } } });
  const image = makeImage({ layers: [200 * KIB], seed: 'k4' });
  const digest = here.harbor.push('library/app', image, 'v1');
  const lift = here.harbor.misbehave({ kind: 'blob', does: { type: 'silent' } });
  const body = krakenBody('harbor.test', 'library/app', digest, 'v1');
  t.equal((await sent('POST', () => `${here.next()}/registry/notifications`, body)).status, 200);
  lift();
});

t.test('dragonfly: scopes, any proxy tells, integer ids, rows by origin', async (t) => {
  const here = await setUp(t);
  const { cluster } = here;
  const image = makeImage({ layers: [2 * MIB, 600 * KIB], seed: 'd1' });
  here.harbor.push('library/app', image, 'v1');
  const created = await sent(
    'POST',
    () => `${here.next()}/oapi/v1/jobs`,
    jobBody('harbor.test', 'library/app', 'v1'),
  );
  t.equal(created.status, 200, created.text);
  const { id, state } = viewOf(created);
  t.ok(Number.isSafeInteger(id));
  t.equal(state, 'PENDING');
  t.match(created.json['created_at'], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  const one = await jobEnd(here.next, id);
  t.equal(one.state, 'SUCCESS', one.error);
  for (const blob of blobsOf(image)) t.equal((await holders(here, 'library/app', blob)).length, 1);
  for (const row of one.done) {
    t.match(row.hostname, /^origin-\d$/);
    t.equal(row.ip, '127.0.0.1');
  }
  for (const url of cluster.proxyUrls)
    t.equal(viewOf(await sent('GET', () => `${url}/dragonfly/oapi/v1/jobs/${id}`)).state, 'SUCCESS');
  const all = await runJob(here.next, jobBody('harbor.test', 'library/app', 'v1', 'all_seed_peers'));
  t.equal(all.state, 'SUCCESS', all.error);
  for (const blob of blobsOf(image)) t.equal((await holders(here, 'library/app', blob)).length, 3, blob);
  t.equal(fetchesOf(here, image.layers[0]!), 1, 'copies come from the origins, not from the registry');
  t.equal((await sent('GET', () => `${here.next()}/oapi/v1/jobs/${id + 1}`)).status, 404);
  t.equal((await sent('GET', () => `${here.next()}/oapi/v1/jobs/abc`)).status, 404);
});

t.test('what is brought along is handed to be indexed, and nothing else of it', async (t) => {
  const rule = { from: 'harbor', repositories: ['library/**'] };
  const conversions = [
    { ...rule, name: 'starts', to: 'index', tags: ['v*'] },
    { ...rule, name: 'other', to: 'estargz' },
  ];
  const here = await setUp(t, { document: { conversions } });
  const digest = here.harbor.push('library/app', makeImage({ layers: [300 * KIB], seed: 'i1' }), 'v1');
  here.harbor.push('library/app', makeImage({ layers: [300 * KIB], seed: 'i2' }), 'nightly');
  const queued = async (): Promise<unknown[]> => {
    const { jobs } = await here.cluster.ask<{ jobs: ConversionJob[] }>(here.next(), '/v1/conversions');
    return jobs.map(({ payload: { kind, rule, repository, tag } }) => [kind, rule, repository, tag]);
  };
  for (const tag of ['v1', 'nightly'])
    t.equal((await runJob(here.next, jobBody('harbor.test', 'library/app', tag))).state, 'SUCCESS');
  t.same(await queued(), [['index', 'starts', 'library/app', 'v1']], 'the rule names its tags');
  t.equal((await runJob(here.next, jobBody('harbor.test', 'library/app', digest))).state, 'SUCCESS');
  t.equal((await queued()).length, 2, 'a digest has no tag that could be left out');
});

t.test('dragonfly: all_peers reaches every node and tells of each; then they need nobody', async (t) => {
  const here = await setUp(t, { agents: 3, trackers: 2 });
  const image = makeImage({ layers: [3 * MIB, 50 * KIB], seed: 'd2' });
  here.harbor.push('library/app', image, 'v1');
  const job = await runJob(here.next, jobBody('harbor.test', 'library/app', 'v1', 'all_peers'));
  t.equal(job.state, 'SUCCESS', job.error);
  const nodes = job.done.map(({ hostname }) => hostname).filter((name) => name.startsWith('agent'));
  t.same(nodes.sort(), ['agent-1', 'agent-2', 'agent-3']);
  const before = here.harbor.blobBytes;
  for (const { url } of here.cluster.agents) await pullUntilGiven(url, 'library/app', 'v1', 'harbor.test');
  t.equal(here.harbor.blobBytes, before);
});

t.test('the cache of a build, an index of blobs, is brought like an image, to nodes too', async (t) => {
  const here = await setUp(t, { agents: 1, trackers: 1 });
  const parts: [string, Buffer][] = [
    ['application/vnd.oci.image.layer.v1.tar+gzip', Buffer.alloc(5 * MIB, 'layer')],
    ['application/vnd.buildkit.cacheconfig.v0', Buffer.from('{"layers":[],"records":[]}')],
  ];
  const manifests = parts.map(([mediaType, bytes]) => ({
    mediaType,
    digest: here.harbor.addBlob('library/app', bytes),
    size: bytes.length,
  }));
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
  here.harbor.addManifest('library/app', { digest: digestOf(bytes), mediaType: OCI_INDEX, bytes }, 'cache');
  const job = await runJob(here.next, jobBody('harbor.test', 'library/app', 'cache', 'all_peers'));
  t.equal(job.state, 'SUCCESS', job.error);
  for (const { digest } of manifests) t.equal(fetchesOf(here, digest), 1, digest);
});

t.test('dragonfly: a node that cannot is a failed row with its reason, and the job says so', async (t) => {
  const here = await setUp(t, { agents: 2, trackers: 1 });
  const image = makeImage({ layers: [2 * MIB], seed: 'd3' });
  here.harbor.push('library/app', image, 'v1');
  const seen = await runJob(here.next, jobBody('harbor.test', 'library/app', 'v1'));
  t.equal(seen.state, 'SUCCESS');
  await here.cluster.stopMember('agent-2');
  const job = await runJob(here.next, jobBody('harbor.test', 'library/app', 'v1', 'all_peers'));
  t.equal(job.state, 'SUCCESS', 'a node that left its cluster is none to wait for');
  t.same(
    job.done.map(({ hostname }) => hostname).filter((name) => name.startsWith('agent')),
    ['agent-1'],
  );
});

t.test('dragonfly: what fails ends as FAILURE with a text; bad requests are 400', async (t) => {
  const here = await setUp(t);
  const none = await runJob(here.next, jobBody('harbor.test', 'library/none', 'v1'));
  t.equal(none.state, 'FAILURE');
  t.match(none.error, /UNKNOWN/);
  const send = (body: unknown) => call('POST', `${here.next()}/oapi/v1/jobs`, body);
  const unknown = await send(jobBody('evil.test', 'library/app', 'v1'));
  t.equal(unknown.status, 404);
  t.match(unknown.text, /no upstream answers to evil\.test/);
  for (const bad of [
    '{}',
    'null',
    { type: 'preheat' },
    { type: 'preheat', args: { url: 'nonsense' } },
    { type: 'preheat', args: { url: 'http://harbor.test/v2/a/blobs/b' } },
    jobBody('harbor.test', 'library/app', 'v1', 'half_of_them'),
  ])
    t.equal((await send(bad)).status, 400, JSON.stringify(bad));
});

t.test('dragonfly: the token that comes along is used, and not written anywhere', async (t) => {
  const auth = { auth: { type: 'basic', username: 'only', password: 'distributor' } };
  const here = await setUp(t, {}, auth);
  const image = makeImage({ layers: [500 * KIB], seed: 'd4' });
  here.harbor.push('library/private', image, 'v1');
  const token = `Basic ${Buffer.from('only:distributor').toString('base64')}`;
  const denied = await runJob(here.next, jobBody('harbor.test', 'library/private', 'v1'));
  t.equal(denied.state, 'FAILURE', 'origins have no credentials of their own');
  t.match(denied.error, /UPSTREAM_DENIED/);
  const job = await runJob(here.next, jobBody('harbor.test', 'library/private', 'v1', '', token));
  t.equal(job.state, 'SUCCESS', job.error);
  const logged = JSON.stringify(here.log.lines);
  t.match(logged, /preheat job ended/);
  t.notOk(logged.includes(token.slice('Basic '.length)), 'not logged');
});

t.test(
  'a job goes on when its proxy goes away; one that needs its token fails with a clear text',
  async (t) => {
    const here = await setUp(t);
    const [first, second] = here.cluster.proxyUrls;
    const image = makeImage({ layers: [2 * MIB], seed: 'd5' });
    here.harbor.push('library/app', image, 'v1');
    const lift = here.harbor.misbehave({
      kind: 'blob',
      method: 'GET',
      does: { type: 'slow', bytesPerSec: 200 * KIB },
    });
    const created = await call('POST', `${first}/oapi/v1/jobs`, jobBody('harbor.test', 'library/app', 'v1'));
    const { id } = viewOf(created);
    await until(() => here.harbor.requests('blob', 'GET').length > 0, 'it has begun');
    await here.cluster.stopMember('proxy-1');
    lift();
    const job = await jobEnd(() => second!, id);
    t.equal(job.state, 'SUCCESS', job.error);
  },
);

t.test('drivers are off unless they are configured; health is open', async (t) => {
  const few = { origins: 1, proxies: 1, agents: 0, trackers: 0 };
  await using off = await Constellation.start(t.testdir(), few);
  const [url] = off.proxyUrls;
  for (const [method, path, status] of [
    ['POST', '/registry/notifications', 404],
    ['POST', '/kraken/registry/notifications', 404],
    ['POST', '/oapi/v1/jobs', 404],
    ['GET', '/oapi/v1/jobs/4097', 404],
    ['POST', '/preheats', 404],
    ['GET', '/preheats/4097', 404],
    ['GET', '/health', 200],
    ['GET', '/dragonfly/healthy', 200],
    ['GET', '/_ping', 200],
  ] as const) {
    const answer = await call(method, `${url}${path}`, method === 'POST' ? {} : undefined);
    t.equal(answer.status, status, path);
    if (status === 404) t.match(answer.text, 'harbor.driver-auth.mode', 'it says how to set them');
  }
});

t.test('mode none is told of at the start', async (t) => {
  const here = await setUp(t, { origins: 1, proxies: 1, trackers: 0 });
  t.ok(here.log.has(/harbor\.driver-auth\.mode is none/));
});

t.test('driver auth: basic, bearer and custom headers, on every route', async (t) => {
  const dir = t.testdir({ secret: 's3cret\n' });
  const modes = [
    [
      { mode: 'basic', username: 'harbor' },
      'authorization',
      `Basic ${Buffer.from('harbor:s3cret').toString('base64')}`,
    ],
    [{ mode: 'bearer' }, 'authorization', 'Bearer s3cret'],
    [{ mode: 'custom', header: 'X-Sepia' }, 'x-sepia', 's3cret'],
  ] as const;
  for (const [index, [mode, header, value]] of modes.entries()) {
    const cluster = await Constellation.start(`${dir}/${index}`, {
      origins: 1,
      proxies: 1,
      agents: 0,
      trackers: 0,
      proxy: { harbor: { 'driver-auth': { ...mode, 'secret-file': `${dir}/secret` } } },
    });
    try {
      const [url] = cluster.proxyUrls;
      for (const [method, path, good] of [
        ['GET', '/health', 200],
        ['GET', '/dragonfly/healthy', 200],
        ['POST', '/registry/notifications', 400],
        ['POST', '/oapi/v1/jobs', 400],
        ['GET', '/oapi/v1/jobs/4097', 404],
        ['POST', '/preheats', 400],
      ] as const) {
        const body = method === 'POST' ? {} : undefined;
        t.equal((await call(method, `${url}${path}`, body)).status, 401, `${mode.mode} ${path} without`);
        t.equal((await call(method, `${url}${path}`, body, { [header]: `${value}x` })).status, 401, 'wrong');
        t.equal(
          (await call(method, `${url}${path}`, body, { [header]: value })).status,
          good,
          `${mode.mode} ${path}`,
        );
      }
      t.not((await call('GET', `${url}/readiness`)).status, 401, 'for load balancers');
    } finally {
      await cluster.stop();
    }
  }
});

t.test('the older protocol: text ids, its own words for states', async (t) => {
  const here = await setUp(t);
  const image = makeImage({ layers: [100 * KIB], seed: 'old' });
  here.harbor.push('library/app', image, 'v1');
  const created = await call('POST', `${here.next()}/dragonfly/preheats`, {
    type: 'image',
    url: 'https://harbor.test/v2/library/app/manifests/v1',
    headers: {},
    image: 'library/app',
    tag: 'v1',
  });
  t.match(created.json['ID'], /^\d+$/);
  await until(async () => {
    const { json } = await sent('GET', () => `${here.next()}/preheats/${String(created.json['ID'])}`);
    return json['Status'] === 'SUCCESS' && json['finishTime'] !== '';
  }, 'it ends');
});
