import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import type { WriteBackJob, WriteBackStatus } from '@sepia/cluster/api/write-back';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { until as untilWithin } from '@sepia/test-support/until';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import t, { type Test } from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';

const RETRY = { first: '50ms', max: '300ms', tries: 3 };

/** Every wait of this file ends much earlier, unless the machine does something else. */
const until: typeof untilWithin = async (look, what) => await untilWithin(look, what, 90_000);

interface Answer {
  readonly status: number;
  readonly digest: string | undefined;
  readonly bytes: Buffer;
}

class Hub {
  readonly target: TestTarget;
  readonly c: TestCluster;
  #turn = 0;

  constructor(target: TestTarget, c: TestCluster) {
    this.target = target;
    this.c = c;
  }

  static async start(t: Test, keys: object = {}, options: { config?: string } = {}): Promise<Hub> {
    const target = await TestTarget.start(t);
    const writeBack = { retry: RETRY, ...keys };
    const hub = { name: 'hub', url: target.url, mode: 'write-back', access: 'cluster' };
    const upstreams = [{ ...hub, 'write-back': writeBack }];
    return new Hub(target, await startCluster(t, { origins: 3, upstreams, ...options }));
  }

  /** At one origin after the other. */
  async call(method: string, path: string, body?: Buffer, type?: string): Promise<Answer> {
    const ids = [...this.c.origins.keys()];
    const answer = await this.c.call(ids[this.#turn++ % ids.length]!, {
      method: method as 'GET',
      path,
      ...(body === undefined ? {} : { body }),
      ...(type === undefined ? {} : { headers: { 'content-type': type } }),
    });
    const digest = answer.headers['docker-content-digest'];
    return { status: answer.status, digest: digest as string | undefined, bytes: answer.bytes };
  }

  async blob(repository: string, bytes: Buffer): Promise<object> {
    const digest = digestOf(bytes);
    const put = await this.call('PUT', `/v1/blobs/${digest}?upstream=hub&repository=${repository}`, bytes);
    if (put.status !== 201) throw new Error(`blob: ${put.status} ${put.bytes}`);
    return { mediaType: 'application/octet-stream', digest, size: bytes.length };
  }

  async manifest(repository: string, reference: string | undefined, body: object): Promise<string> {
    const bytes = Buffer.from(JSON.stringify(body));
    const digest = digestOf(bytes);
    const path = `/v1/manifests?upstream=hub&repository=${repository}&reference=${reference ?? digest}`;
    const put = await this.call('PUT', path, bytes, (body as { mediaType: string }).mediaType);
    if (put.status !== 201) throw new Error(`manifest: ${put.status} ${put.bytes}`);
    return digest;
  }

  async image(repository: string, reference?: string, bytes = randomBytes(300)): Promise<string> {
    const layers = [await this.blob(repository, bytes)];
    return await this.manifest(repository, reference, { schemaVersion: 2, mediaType: OCI_MANIFEST, layers });
  }

  async tag(repository: string, reference: string): Promise<Answer> {
    return await this.call(
      'GET',
      `/v1/manifests?upstream=hub&repository=${repository}&reference=${reference}`,
    );
  }

  async jobs(): Promise<readonly WriteBackJob[]> {
    const all = await Promise.all(
      [...this.c.origins.keys()].map(async (id) => {
        const { bytes } = await this.c.call(id, { method: 'GET', path: '/v1/write-back' });
        return (JSON.parse(bytes.toString()) as WriteBackStatus).jobs;
      }),
    );
    return all.flat();
  }

  async retry(body: object): Promise<void> {
    for (const id of this.c.origins.keys()) {
      const json = Buffer.from(JSON.stringify({ atMs: Date.now(), ...body }));
      const { status, bytes } = await this.c.call(id, {
        method: 'POST',
        path: '/v1/write-back/retry',
        body: json,
      });
      if (status !== 200) throw new Error(bytes.toString());
    }
  }

  async drained(): Promise<void> {
    await until(async () => (await this.jobs()).length === 0, 'nothing waits');
  }

  async dead(): Promise<WriteBackJob> {
    let found: WriteBackJob | undefined;
    await until(async () => {
      found = (await this.jobs()).find((job) => job.state === 'dead');
      return found !== undefined;
    }, 'a job is dead');
    return found!;
  }

  /** Somebody pushes to the registry itself. */
  direct(repository: string, tag: string): string {
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: OCI_MANIFEST,
        layers: [],
        x: randomBytes(8).toString('hex'),
      }),
    );
    const digest = digestOf(bytes);
    this.target.manifestBytes.set(digest, bytes);
    this.target.manifests.set(`${repository}@${digest}`, digest);
    this.target.manifests.set(`${repository}:${tag}`, digest);
    return digest;
  }
}

t.test(
  'an index with children is pushed while the registry is away, read, and brought there once',
  async (t) => {
    const hub = await Hub.start(t);
    await hub.target.down();
    const shared = randomBytes(5_000);
    const children = [await hub.image('team/app', undefined, shared), await hub.image('team/app')];
    const manifests = children.map((digest) => ({ mediaType: OCI_MANIFEST, digest, size: 1 }));
    const sizes = await Promise.all(
      children.map(async (digest) => (await hub.tag('team/app', digest)).bytes.length),
    );
    const index = await hub.manifest('team/app', 'v1', {
      schemaVersion: 2,
      mediaType: OCI_INDEX,
      manifests: manifests.map((one, at) => ({ ...one, size: sizes[at] })),
    });
    const overwritten = await hub.image('team/app', 'v2', shared);
    const second = await hub.image('team/app', 'v2');
    for (let turn = 0; turn < 3; turn++) {
      t.match(await hub.tag('team/app', 'v1'), { status: 200, digest: index });
      t.match(await hub.tag('team/app', 'v2'), { status: 200, digest: second });
      const blob = await hub.call('GET', `/v1/blobs/${digestOf(shared)}?upstream=hub&repository=team/app`);
      t.same(blob.bytes, shared, 'the layer is read wherever it is asked for');
    }
    const list = await hub.call('GET', '/v1/tags?upstream=hub&repository=team/app');
    t.match(JSON.parse(list.bytes.toString()), { tags: ['v1', 'v2'] });
    t.ok((await hub.jobs()).length > 0, 'it waits');
    await hub.target.up();
    await hub.drained();
    t.equal(hub.target.manifests.get('team/app:v1'), index);
    t.equal(hub.target.manifests.get('team/app:v2'), second);
    t.ok(hub.target.manifests.has(`team/app@${overwritten}`), 'what the tag pointed at before is there too');
    t.same(
      [...hub.target.sent].filter(([, count]) => count !== 1),
      [],
      'each once',
    );
    const puts = hub.target.requests.filter((line) => line.startsWith('PUT') && !line.includes('sha256'));
    t.ok(
      puts.findIndex((line) => line.includes('manifests/v1')) >
        puts.findIndex((line) => line.includes('uploads')),
    );
    hub.direct('team/app', 'v1');
    await until(
      async () =>
        (await hub.call('GET', '/v1/manifests?upstream=hub&repository=team/app&reference=v1&fresh=1'))
          .digest !== index,
      'once it is there, the registry decides',
    );
  },
);

t.test('a tag that changed at the registry meanwhile: ours, theirs, stop', async (t) => {
  for (const policy of ['ours', 'theirs', 'stop']) {
    await t.test(policy, async (t) => {
      const hub = await Hub.start(t, { 'on-conflict': policy });
      hub.direct('team/app', 'v1');
      t.match(await hub.tag('team/app', 'v1'), { status: 200 });
      hub.target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status: 503 } : undefined);
      const ours = await hub.image('team/app', 'v1');
      t.match(await hub.tag('team/app', 'v1'), { digest: ours }, 'the push wins while it waits');
      const theirs = hub.direct('team/app', 'v1');
      t.match(await hub.tag('team/app', 'v1'), { digest: ours }, 'also over what changed there');
      hub.target.fault = () => undefined;
      if (policy === 'stop') {
        const dead = await hub.dead();
        t.match(dead, { error: /^WRITE_BACK_CONFLICT/, advice: /--take ours/ });
        t.equal(hub.target.manifests.get('team/app:v1'), theirs, 'nothing is changed there');
        t.match(await hub.tag('team/app', 'v1'), { digest: ours });
        await hub.retry({ job: dead.id, take: 'ours' });
      }
      await hub.drained();
      const winner = policy === 'theirs' ? theirs : ours;
      t.equal(hub.target.manifests.get('team/app:v1'), winner);
      t.match(await hub.tag('team/app', 'v1'), { status: 200, digest: winner });
    });
  }
});

t.test('refusals say why and what to do, and are dead until they are retried', async (t) => {
  const hub = await Hub.start(t);
  let status = 403;
  hub.target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status } : undefined);
  const digest = await hub.image('team/app', 'v1');
  t.match(await hub.dead(), { error: /^UPSTREAM_DENIED/, advice: /credentials/, tries: 3 });
  status = 412;
  const other = await hub.image('team/app', 'v2');
  await until(
    async () => (await hub.jobs()).some((job) => /UPSTREAM_POLICY/.test(job.error ?? '')),
    'refused',
  );
  t.match(await hub.tag('team/app', 'v1'), { status: 200, digest }, 'what was given up still counts here');
  hub.target.fault = () => undefined;
  await hub.retry({ dead: true });
  await hub.drained();
  t.equal(hub.target.manifests.get('team/app:v1'), digest);
  t.equal(hub.target.manifests.get('team/app:v2'), other);
});

t.test('deletes: hidden at once, gone there behind; a push after it stays', async (t) => {
  const hub = await Hub.start(t);
  const digest = await hub.image('team/app', 'v1');
  await hub.image('team/app', 'v2');
  await hub.drained();
  hub.target.fault = (method) => (method === 'DELETE' || method === 'PUT' ? { status: 503 } : undefined);
  const drop = async (reference: string): Promise<number> =>
    (await hub.call('DELETE', `/v1/manifests?upstream=hub&repository=team/app&reference=${reference}`))
      .status;
  t.equal(await drop('v1'), 204);
  t.match(await hub.tag('team/app', 'v1'), { status: 404 }, 'although the registry still has it');
  const list = await hub.call('GET', '/v1/tags?upstream=hub&repository=team/app');
  t.match(JSON.parse(list.bytes.toString()), { tags: ['v2'] });
  t.equal(await drop(digest), 204);
  t.match(await hub.tag('team/app', digest), { status: 404 });
  t.equal(await drop('v2'), 204);
  const again = await hub.image('team/app', 'v2');
  t.match(await hub.tag('team/app', 'v2'), { digest: again });
  hub.target.fault = () => undefined;
  await hub.drained();
  t.notOk(hub.target.manifests.has('team/app:v1'));
  t.notOk(hub.target.manifests.has(`team/app@${digest}`));
  t.equal(hub.target.manifests.get('team/app:v2'), again);
});

t.test('a purge is refused while anything waits: also what has no tag, or had one before', async (t) => {
  const target = await TestTarget.start(t);
  const upstreams = [
    { name: 'hub', url: target.url, mode: 'write-back', access: 'cluster', 'write-back': { retry: RETRY } },
  ];
  const hub = new Hub(target, await startCluster(t, { origins: 5, upstreams }));
  const purge = async (repository: string): Promise<Answer[]> => {
    const path = `/v1/removals?upstream=hub&repository=${repository}`;
    return await Promise.all(hub.c.ids.map(async () => await hub.call('POST', path, Buffer.from('{}'))));
  };
  target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status: 412 } : undefined);
  const byDigest = await hub.image('team/signed');
  const before = await hub.image('team/moved', 'v1');
  await until(async () => (await hub.jobs()).every((job) => job.state === 'dead'), 'refused');
  target.fault = () => undefined;
  await hub.image('team/moved', 'v1');
  await until(async () => (await hub.jobs()).every((job) => job.state === 'dead'), 'v1 is there');
  for (const answer of await purge('team/signed')) {
    t.equal(answer.status, 405);
    t.match(answer.bytes.toString(), `team/signed@${byDigest} awaits write-back`, 'at whichever origin');
  }
  for (const answer of await purge('team/moved')) t.equal(answer.status, 405);
  await hub.retry({ dead: true });
  await hub.drained();
  t.ok(target.manifests.has(`team/signed@${byDigest}`));
  t.ok(target.manifests.has(`team/moved@${before}`));
  for (const repository of ['team/signed', 'team/moved'])
    t.equal((await purge(repository))[0]!.status, 200, 'once it is there');
});

t.test('what a registry neither takes nor deletes is given up: deleted here, then retried', async (t) => {
  const hub = await Hub.start(t);
  hub.target.fault = (method) => {
    if (method === 'DELETE') return { status: 405 };
    return method === 'PUT' || method === 'POST' ? { status: 412 } : undefined;
  };
  const refused = await hub.image('team/app', 'v1');
  await hub.dead();
  const path = `/v1/manifests?upstream=hub&repository=team/app&reference=${refused}`;
  t.equal((await hub.call('DELETE', path)).status, 204);
  await until(async () => (await hub.jobs()).every((job) => job.state === 'dead'), 'all that can end ended');
  await hub.retry({ dead: true });
  await hub.drained();
  t.notOk(
    hub.target.requests.some((line) => line.startsWith('DELETE')),
    'it was never there',
  );
});

t.test('only what was pushed is mounted: what is cached may go', async (t) => {
  const hub = await Hub.start(t);
  const bytes = randomBytes(3_000);
  const digest = digestOf(bytes);
  hub.target.blobs.set(`team/base@${digest}`, bytes);
  for (const id of hub.c.origins.keys()) {
    const path = `/v1/blobs/${digest}?upstream=hub&repository=team/base`;
    const read = await hub.c.call(id, { method: 'GET', path });
    t.ok(read.status === 200 || read.status === 307, 'it is read through');
  }
  const mount = async (id: string): Promise<number> => {
    const path = `/v1/mounts?upstream=hub&repository=team/app&from=team/base&digest=${digest}`;
    return (await hub.c.call(id, { method: 'POST', path })).status;
  };
  for (const id of hub.c.origins.keys()) t.equal(await mount(id), 404, 'it is only cached');
  await hub.blob('team/base', bytes);
  for (const id of hub.c.origins.keys()) t.equal(await mount(id), 201);
});
