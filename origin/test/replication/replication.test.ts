import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { shardKey } from '@sepia/cluster/cluster';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { untilAnswered, until as untilWithin } from '@sepia/test-support/until';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import t, { type Test } from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';

/** So many tries that no job is given up while the machine is slow. */
const RETRY = { first: '50ms', max: '300ms', tries: 1_000 };
const BASE = { name: 'dr', from: 'local', repositories: ['team/**'], retry: RETRY };
const CREDENTIALS = 'credentials:\n  other:\n    username: user\n    password-file: password';

/** Every wait of this file ends much earlier, unless the machine does something else. */
const until: typeof untilWithin = async (look, what) => await untilWithin(look, what, 90_000);

interface Status {
  readonly jobs: readonly { id: string; state: string; tries: number; error?: string; reference: string }[];
}

async function setUp(
  t: Test,
  rule: object,
  options: { origins?: number; config?: string } = {},
): Promise<{ target: TestTarget; c: TestCluster }> {
  const target = await TestTarget.start(t);
  const replication = [{ ...BASE, to: { url: target.url }, ...rule }];
  const c = await startCluster(t, { origins: options.origins ?? 3, document: { replication }, ...options });
  return { target, c };
}

async function pushBlob(c: TestCluster, repository: string, bytes: Buffer): Promise<object> {
  const digest = digestOf(bytes);
  const path = `/v1/blobs/${digest}?upstream=local&repository=${repository}`;
  const put = await untilAnswered(async () => await c.put(c.ids[0]!, path, bytes), 'a blob');
  if (put.status !== 201) throw new Error(`blob: ${put.status} ${put.bytes}`);
  return { mediaType: 'application/octet-stream', digest, size: bytes.length };
}

async function pushManifest(
  c: TestCluster,
  repository: string,
  reference: string | undefined,
  body: object,
): Promise<{ mediaType: string; digest: string; size: number }> {
  const bytes = Buffer.from(JSON.stringify(body));
  const digest = digestOf(bytes);
  const { mediaType } = body as { mediaType: string };
  const path = `/v1/manifests?upstream=local&repository=${repository}&reference=${reference ?? digest}`;
  const put = await untilAnswered(
    async () => await c.put(c.ids.at(-1)!, path, bytes, { 'content-type': mediaType }),
    reference ?? digest,
  );
  if (put.status !== 201) throw new Error(`manifest: ${put.status} ${put.bytes}`);
  return { mediaType, digest, size: bytes.length };
}

async function pushImage(
  c: TestCluster,
  repository: string,
  tag: string | undefined,
  blobs: readonly Buffer[],
  more: object = {},
): Promise<{ mediaType: string; digest: string; size: number }> {
  const layers = await Promise.all(blobs.map(async (bytes) => await pushBlob(c, repository, bytes)));
  return await pushManifest(c, repository, tag, {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    layers,
    ...more,
  });
}

async function status(c: TestCluster, id: string): Promise<Status> {
  const answer = await c.get(id, '/v1/replication');
  return JSON.parse(answer.bytes.toString()) as Status;
}

async function post(
  c: TestCluster,
  act: string,
  body: object,
): Promise<{ changed?: number; queued?: number }[]> {
  return await Promise.all(
    [...c.origins.keys()].map(async (id) => {
      const answer = await c.call(id, {
        method: 'POST',
        path: `/v1/replication/${act}`,
        body: JSON.stringify(body),
      });
      if (answer.status !== 200) throw new Error(answer.bytes.toString());
      return JSON.parse(answer.bytes.toString()) as object;
    }),
  );
}

async function noJobs(c: TestCluster): Promise<boolean> {
  const all = await Promise.all([...c.origins.keys()].map(async (id) => await status(c, id)));
  return all.every(({ jobs }) => jobs.length === 0);
}

function onlyOnce(t: Test, target: TestTarget): void {
  t.same(
    [...target.sent].filter(([key, count]) => count !== 1 && !/:v|:sha256-/.test(key)),
    [],
    'nothing was sent twice',
  );
}

t.test('the cache of a build, an index of blobs, goes over like an image', async (t) => {
  const { target, c } = await setUp(t, { tags: ['cache'] });
  const kinds: [string, Buffer][] = [
    ['application/vnd.oci.image.layer.v1.tar+gzip', randomBytes(40_000)],
    ['application/vnd.docker.image.rootfs.diff.tar.gzip', randomBytes(5_000_000)],
    ['application/vnd.buildkit.cacheconfig.v0', Buffer.from('{"layers":[],"records":[]}')],
  ];
  const manifests = await Promise.all(
    kinds.map(async ([mediaType, bytes]) => ({ ...(await pushBlob(c, 'team/app', bytes)), mediaType })),
  );
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests };
  const { digest } = await pushManifest(c, 'team/app', 'cache', index);
  await until(() => target.manifests.get('team/app:cache') === digest, 'the tag is there');
  for (const [mediaType, bytes] of kinds)
    t.ok(target.blobs.get(`team/app@${digestOf(bytes)}`)?.equals(bytes), mediaType);
  onlyOnce(t, target);
});

t.test('an index goes over whatever types it gives to its blobs and images', async (t) => {
  const { target, c } = await setUp(t, { tags: ['odd'] });
  const part = randomBytes(40_000);
  const { digest, size } = await pushImage(c, 'team/app', undefined, [randomBytes(50_000)]);
  const manifests = [
    { ...(await pushBlob(c, 'team/app', part)), mediaType: 'application/vnd.example.part' },
    { digest, size },
  ];
  const index = await pushManifest(c, 'team/app', 'odd', {
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests,
  });
  await until(() => target.manifests.get('team/app:odd') === index.digest, 'the tag is there');
  t.ok(target.blobs.get(`team/app@${digestOf(part)}`)?.equals(part), 'the blob');
  t.equal(target.manifests.get(`team/app@${digest}`), digest, 'the image');
  onlyOnce(t, target);
});

t.test('an index with its children goes over once, mounts are used, names are rewritten', async (t) => {
  const rewrite = { 'strip-prefix': 'team', 'add-prefix': 'mirror/eu' };
  const { target, c } = await setUp(t, { rewrite, tags: ['v*'] });
  const shared = randomBytes(50_000);
  const children = [
    await pushImage(c, 'team/app', undefined, [shared, randomBytes(10)]),
    await pushImage(c, 'team/app', undefined, [shared, randomBytes(2_000_000)]),
  ];
  const inner = await pushManifest(c, 'team/app', undefined, {
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: children,
  });
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [inner, children[0]] };
  const { digest } = await pushManifest(c, 'team/app', 'v1', index);
  await pushManifest(c, 'team/app', 'other', index);
  await until(() => target.manifests.get('mirror/eu/app:v1') === digest, 'the tag is there');
  t.equal(target.manifests.has('mirror/eu/app:other'), false, 'the rule does not name it');
  t.same(target.manifestBytes.get(digest)?.toString(), JSON.stringify(index));
  await pushImage(c, 'team/second', 'v1', [shared]);
  await until(() => target.manifests.has('mirror/eu/second:v1'), 'the second repository');
  t.equal(target.mounts, 1, 'a blob that the target has elsewhere is mounted');
  await pushManifest(c, 'team/app', 'v2', index);
  await until(() => target.manifests.get('mirror/eu/app:v2') === digest, 'a second tag');
  onlyOnce(t, target);
  await until(async () => await noJobs(c), 'every owner knows that all is done');
  await pushImage(c, 'elsewhere/app', 'v1', [randomBytes(5)]);
  t.ok(await noJobs(c), 'what no rule names makes no job');
});

t.test('what a target answers to a mount or a HEAD that it cannot do is no reason not to push', async (t) => {
  const { target, c } = await setUp(t, { rewrite: { 'strip-prefix': 'team' } });
  const shared = randomBytes(50_000);
  await pushImage(c, 'team/first', 'v1', [shared]);
  await until(() => target.manifests.has('first:v1'), 'a repository that has the layer');
  const refusals = { mount: [403, 404, 500], head: [405, 500] };
  let asked = 0;
  for (const [index, status] of [...refusals.mount, ...refusals.head].entries()) {
    const isMount = refusals.mount.includes(status);
    target.fault = (method, path, query) => {
      const isHit = isMount ? query.has('mount') : method === 'HEAD' && path.includes('/blobs/');
      if (!isHit) return undefined;
      asked += 1;
      return { status };
    };
    await pushImage(c, `team/other${index}`, 'v1', [shared]);
    await until(() => target.manifests.has(`other${index}:v1`), `pushed all the same after ${status}`);
    t.ok(asked > index, `${status} was answered`);
  }
});

t.test('what a target only says that it has is sent all the same', async (t) => {
  const { target, c } = await setUp(t, { rewrite: { 'strip-prefix': 'team' }, tags: ['v*'] });
  const layers = [randomBytes(50_000), randomBytes(100)];
  await pushImage(c, 'team/first', 'v1', layers);
  await until(() => target.manifests.has('first:v1'), 'a repository that has the layers');
  // As one says whose memory of its blobs, or of its manifests, outlives them; its mounts come to nothing, too.
  let told = 0;
  target.fault = (method, path, query) => {
    if (query.has('mount')) return { status: 201 };
    const isTold = method === 'HEAD' && path.includes('/blobs/');
    if (isTold) told += 1;
    return isTold ? { status: 200 } : undefined;
  };
  const children = [
    await pushImage(c, 'team/other', undefined, layers),
    await pushImage(c, 'team/other', undefined, [randomBytes(2_000_000)]),
  ];
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: children };
  const { digest } = await pushManifest(c, 'team/other', 'v1', index);
  await until(() => target.manifests.get('other:v1') === digest, 'the tag is there');
  t.ok(told > 0);
  for (const bytes of layers) t.ok(target.blobs.get(`other@${digestOf(bytes)}`)?.equals(bytes));
});

t.test('referrers follow: by digest, of referrers, and under fallback tags', async (t) => {
  const { target, c } = await setUp(t, { tags: ['v*'] });
  const image = await pushImage(c, 'team/app', 'v1', [randomBytes(9)]);
  await until(() => target.manifests.has('team/app:v1'), 'the image');
  const signature = await pushImage(c, 'team/app', undefined, [randomBytes(8)], { subject: image });
  const second = await pushImage(c, 'team/app', undefined, [randomBytes(7)], { subject: signature });
  for (const one of [signature, second])
    await until(() => target.manifests.has(`team/app@${one.digest}`), 'a referrer');
  const fallback = `${image.digest.replace(':', '-')}.sig`;
  await pushImage(c, 'team/app', fallback, [randomBytes(6)]);
  await until(() => target.manifests.has(`team/app:${fallback}`), 'a fallback tag of what is there');
  const stranger = `sha256-${'0'.repeat(64)}.sig`;
  await pushImage(c, 'team/app', stranger, [randomBytes(6)]);
  await until(async () => await noJobs(c), 'all is done');
  t.equal(target.manifests.has(`team/app:${stranger}`), false, 'its subject is not there');
  t.match(target.referrersListed('team/app', image.digest), [{ digest: signature.digest }]);
  t.match(target.referrersListed('team/app', signature.digest), [{ digest: second.digest }]);
});

t.test('a target that fails in every way ends with everything, nothing sent twice', async (t) => {
  const { target, c } = await setUp(t, { credentials: 'other' }, { config: CREDENTIALS });
  target.auth = { type: 'token', uses: 3 };
  const done = { cut: 0, limited: 0, broken: 0 };
  target.fault = (method, path) => {
    if (method === 'PATCH' && done.cut++ < 2) return { cutAfterBytes: 1_000_000 };
    if (method === 'HEAD' && path.includes('manifests') && done.limited++ === 0)
      return { status: 429, headers: { 'retry-after': '1' } };
    if (method === 'PUT' && done.broken++ < 2) return { status: 500 };
    return undefined;
  };
  const big = randomBytes(6_000_000);
  await pushImage(c, 'team/app', 'v1', [big, randomBytes(100), randomBytes(0)]);
  await until(() => target.manifests.has('team/app:v1'), 'all failures are overcome');
  t.same(target.blobs.get(`team/app@${digestOf(big)}`), big);
  t.ok(done.cut >= 2 && done.broken >= 2 && done.limited >= 1, JSON.stringify(done));
  onlyOnce(t, target);
  t.ok(target.requests.filter((one) => one === 'GET /token').length > 2, 'tokens were renewed');
  await target.down();
  await pushImage(c, 'team/app', 'v2', [big, randomBytes(50)]);
  await until(async () => {
    const all = await Promise.all(c.ids.map(async (id) => await status(c, id)));
    return all.some(({ jobs }) => jobs.some((job) => /BACKEND_DOWN: .*refused/.test(job.error ?? '')));
  }, 'its error is told');
  await target.up();
  await until(() => target.manifests.has('team/app:v2'), 'it goes on when the target is back');
  onlyOnce(t, target);
});

t.test('a target with basic auth: credentials are sent, no token is asked for', async (t) => {
  const { target, c } = await setUp(t, { credentials: 'other' }, { config: CREDENTIALS });
  target.auth = { type: 'basic' };
  const image = await pushImage(c, 'team/app', 'v1', [randomBytes(40_000)]);
  await until(() => target.manifests.get('team/app:v1') === image.digest, 'it went over');
  onlyOnce(t, target);
  t.notOk(target.requests.includes('GET /token'), 'no token was asked for');
});

t.test('a target with basic auth, without credentials: the job ends and says why', async (t) => {
  const { target, c } = await setUp(t, { retry: { first: '10ms', max: '20ms', tries: 2 } });
  target.auth = { type: 'basic' };
  await pushImage(c, 'team/app', 'v1', [randomBytes(10)]);
  await until(async () => {
    const all = await Promise.all(c.ids.map(async (id) => await status(c, id)));
    return all.some(({ jobs }) => jobs.some((job) => job.state === 'dead' && /401|DENIED/.test(job.error!)));
  }, 'it is told');
  t.equal(target.sent.size, 0);
});

t.test('a job that fails too often is dead with its last error; retry and cancel', async (t) => {
  const { target, c } = await setUp(t, { retry: { first: '10ms', max: '20ms', tries: 3 } });
  target.fault = () => ({ status: 403 });
  const image = await pushImage(c, 'team/app', 'v1', [randomBytes(10)]);
  const [leader = ''] = c.cluster.origins(shardKey('local', 'team/app')).order;
  await until(async () => (await status(c, leader)).jobs[0]?.state === 'dead', 'it is given up');
  const [job] = (await status(c, leader)).jobs;
  t.match(job, { tries: 3, reference: 'v1', error: /UPSTREAM_DENIED: .*refuses .*403/ });
  target.fault = () => undefined;
  await post(c, 'retry', { dead: true, atMs: Date.now() });
  await until(() => target.manifests.get('team/app:v1') === image.digest, 'it is tried again');
  target.fault = () => ({ status: 503 });
  await pushImage(c, 'team/app', 'v2', [randomBytes(10)]);
  await until(async () => (await status(c, leader)).jobs.length === 1, 'a job waits');
  t.equal(
    (await c.call(leader, { method: 'POST', path: '/v1/replication/cancel', body: '{"atMs":1}' })).status,
    400,
  );
  await post(c, 'cancel', { rule: 'dr', atMs: Date.now() });
  target.fault = () => undefined;
  await until(async () => await noJobs(c), 'it is gone everywhere');
  t.equal(target.manifests.has('team/app:v2'), false);
  const before = target.requests.length;
  const run = { rule: 'dr', id: 'r1', atMs: Date.now() };
  const queued = await post(c, 'run', run);
  t.equal(
    queued.reduce((sum, one) => sum + (one.queued ?? 0), 0),
    2,
  );
  await until(() => target.manifests.has('team/app:v2'), 'run queues what is there');
  t.ok(target.requests.length > before);
  const unknown = await c.call(leader, {
    method: 'POST',
    path: '/v1/replication/run',
    body: JSON.stringify({ ...run, rule: 'x' }),
  });
  t.match(unknown.bytes.toString(), /no replication rule .*x.*there are: dr/);
});

t.test('seven origins: the one that copies dies, another goes on, each blob is sent once', async (t) => {
  const { target, c } = await setUp(t, { rate: '4MiB', 'max-parallel': 1 }, { origins: 7 });
  const [leader = '', next = ''] = c.cluster.origins(shardKey('local', 'team/app')).order;
  const blobs = Array.from({ length: 6 }, () => randomBytes(1_500_000));
  await pushImage(c, 'team/app', 'v1', blobs);
  await until(() => target.sent.size >= 2, 'the copy is under way');
  const shown = (await status(c, leader)).jobs[0];
  t.match(shown, { state: 'running', progress: { sentBytes: Number } });
  await c.stop(leader);
  await until(() => target.manifests.has('team/app:v1'), 'another origin ends it');
  onlyOnce(t, target);
  await until(async () => (await status(c, next)).jobs.length === 0, 'the job is done');
  // Its port may be lent to a connection of somebody else for a moment.
  const isBack = async (): Promise<boolean> =>
    await c.start(leader).then(
      () => true,
      () => false,
    );
  await until(isBack, 'the origin starts again');
  await until(async () => (await status(c, leader)).jobs.length === 0, 'the one that was away hears of it');
  onlyOnce(t, target);
});

t.test('all origins die between push and copy: the jobs are still there', async (t) => {
  const { target, c } = await setUp(t, {}, { origins: 3 });
  await target.down();
  await pushImage(c, 'team/app', 'v1', [randomBytes(1_000)]);
  for (const id of c.ids) await c.stop(id);
  await target.up();
  for (const id of c.ids) await c.start(id);
  await until(() => target.manifests.has('team/app:v1'), 'it is copied after the start');
  onlyOnce(t, target);
});

t.test('an intent whose push never said how it ended runs by itself', async (t) => {
  const { target, c } = await setUp(t, {}, { origins: 1 });
  target.fault = () => ({ status: 503 });
  await pushImage(c, 'team/app', 'v1', [randomBytes(10)]);
  await post(c, 'cancel', { rule: 'dr', atMs: Date.now() });
  const job = {
    v: 1,
    rule: 'dr',
    upstream: 'local',
    repository: 'team/app',
    reference: 'v1',
    kind: 'copy',
    state: 'intent',
    createdAtMs: 1,
    tries: 0,
  };
  target.fault = () => undefined;
  const entry = { upstream: 'local', repository: 'team/app', id: 'left-behind', atMs: 1, job };
  const put = await c.put('o1', '/v1/replication/jobs', JSON.stringify({ jobs: [entry] }));
  t.equal(put.status, 200, put.bytes.toString());
  await until(() => target.manifests.has('team/app:v1'), 'it ran');
});

t.test('rules that cannot be meant stop the start with their key', async (t) => {
  const to = { url: 'http://127.0.0.1:1' };
  for (const [rule, text] of [
    [{ ...BASE, to, from: 'nowhere' }, /replication\.0\.from: "nowhere" is no upstream/],
    [{ ...BASE, to: { url: 'x' } }, /replication\.0\.to\.url/],
    [{ ...BASE, to, tags: ['['] }, /replication\.0\.tags\.0/],
    [{ ...BASE, to, credentials: 'lacking' }, /credentials\.lacking: is missing; replication\.0/],
    [{ ...BASE, to, rewrite: { 'add-prefix': 'UPPER' } }, /replication\.0\.rewrite\.add-prefix/],
  ] as const)
    await t.rejects(startCluster(t, { origins: 1, document: { replication: [rule] } }), {
      code: 'CONFIG_INVALID',
      message: text,
    });
});
