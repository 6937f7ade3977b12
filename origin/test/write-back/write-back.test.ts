import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { MAX_MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { type Answer, Hub, RETRY, until } from '../support/hub.ts';

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

t.test('an index of blobs of types that nobody knows is pushed while the registry is away', async (t) => {
  const hub = await Hub.start(t);
  await hub.target.down();
  const parts = [randomBytes(40_000), randomBytes(MAX_MANIFEST_BYTES + 1)];
  const manifests = [];
  for (const part of parts)
    manifests.push({ ...(await hub.blob('team/app', part)), mediaType: 'application/vnd.example.part' });
  const index = await hub.manifest('team/app', 'v1', { schemaVersion: 2, mediaType: OCI_INDEX, manifests });
  for (const part of parts)
    t.equal((await hub.tag('team/app', digestOf(part))).status, 404, 'none of them is a manifest');
  await hub.target.up();
  await hub.drained();
  t.equal(hub.target.manifests.get('team/app:v1'), index);
  for (const part of parts) t.ok(hub.target.blobs.get(`team/app@${digestOf(part)}`)?.equals(part));
});

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

t.test('a purge of one image leaves what others share with it', async (t) => {
  const hub = await Hub.start(t);
  const shared = randomBytes(2_000);
  const image = await hub.image('team/app', undefined, shared);
  const child = {
    mediaType: OCI_MANIFEST,
    digest: image,
    size: (await hub.tag('team/app', image)).bytes.length,
  };
  const index = async (tag: string, annotations: object): Promise<string> => {
    const body = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [child], annotations };
    return await hub.manifest('team/app', tag, body);
  };
  const alias = await index('v1', {});
  await index('v3', {});
  const sibling = await index('v4', { x: 'y' });
  const other = await hub.manifest('team/app', 'v2', {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    layers: [await hub.blob('team/app', shared), await hub.blob('team/app', randomBytes(100))],
  });
  await hub.drained();
  const purge = Buffer.from(JSON.stringify({ tag: 'v1' }));
  t.match(await hub.call('POST', '/v1/removals?upstream=hub&repository=team/app', purge), { status: 200 });
  t.match(await hub.tag('team/app', 'v3'), { status: 200, digest: alias }, 'another tag of it');
  t.match(await hub.tag('team/app', 'v4'), { status: 200, digest: sibling });
  t.match(await hub.tag('team/app', image), { status: 200 }, 'what both indexes name');
  t.match(await hub.tag('team/app', 'v2'), { status: 200, digest: other });
  const blob = await hub.call('GET', `/v1/blobs/${digestOf(shared)}?upstream=hub&repository=team/app`);
  t.equal(blob.status, 200, blob.bytes.toString().slice(0, 200));
});

t.test('a repository that was purged is read from the registry again, whatever others have', async (t) => {
  const hub = await Hub.start(t);
  const layer = randomBytes(2_000);
  const references = new Set(['v1']);
  for (const repository of ['team/app', 'team/twin']) {
    const image = await hub.image(repository, undefined, layer);
    const size = (await hub.tag(repository, image)).bytes.length;
    const manifests = [{ mediaType: OCI_MANIFEST, digest: image, size }];
    await hub.manifest(repository, 'v1', { schemaVersion: 2, mediaType: OCI_INDEX, manifests });
    references.add(image);
  }
  await hub.drained();
  const purge = await hub.call('POST', '/v1/removals?upstream=hub&repository=team/app', Buffer.from('{}'));
  t.equal(purge.status, 200, purge.bytes.toString());
  for (const reference of references) t.match(await hub.tag('team/app', reference), { status: 200 });
  for (const _ of hub.c.ids) {
    const blob = await hub.call('GET', `/v1/blobs/${digestOf(layer)}?upstream=hub&repository=team/app`);
    t.equal(blob.status, 200, blob.bytes.toString().slice(0, 200));
  }
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
    const read = await hub.c.get(id, path);
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
