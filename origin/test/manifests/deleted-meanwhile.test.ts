import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import type { Fault } from '@sepia/test-support/upstream/test-target';
import t from 'tap';
import { type TagName, Tags } from '../../src/records/tags.ts';
import type { TagRules } from '../../src/upstream/core/tag-policy.ts';
import { Hub } from '../support/hub.ts';

t.test('what is deleted while a pull of it is under way stays deleted', async (t) => {
  const hub = await Hub.start(t);
  // Nothing of the tag is on record: nothing stale can be served, however long the answer is held.
  const digest = hub.direct('team/app', 'v1');
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<Fault | undefined>();
  hub.target.fault = (method, path) => {
    if (method !== 'GET' || !path.endsWith('/manifests/v1')) return undefined;
    asked.resolve();
    return answer.promise;
  };
  const pull = hub.call('GET', '/v1/manifests?upstream=hub&repository=team/app&reference=v1&fresh=1');
  await asked.promise;
  t.match(await hub.tag('team/app', digest), { status: 200 });
  const drop = await hub.call('DELETE', `/v1/manifests?upstream=hub&repository=team/app&reference=${digest}`);
  t.equal(drop.status, 204, drop.bytes.toString());
  answer.resolve(undefined);
  t.match(await pull, { status: 404 });
  for (const _ of hub.c.origins) t.match(await hub.tag('team/app', digest), { status: 404 });
  await hub.drained();
  t.notOk(hub.target.manifests.has(`team/app@${digest}`));
});

t.test(
  'a manifest that is known by its index alone, or was noted under a clock that was ahead, can be deleted',
  async (t) => {
    const hub = await Hub.start(t);
    const drop = async (digest: string) =>
      await hub.call('DELETE', `/v1/manifests?upstream=hub&repository=team/app&reference=${digest}`);
    const child = hub.direct('team/app', 'child');
    const size = hub.target.manifestBytes.get(child)!.length;
    const manifests = [{ mediaType: OCI_MANIFEST, digest: child, size }];
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
    const index = digestOf(bytes);
    hub.target.manifestBytes.set(index, bytes);
    for (const one of [`team/app@${index}`, 'team/app:v1']) hub.target.manifests.set(one, index);
    t.match(await hub.tag('team/app', 'v1'), { status: 200, digest: index });
    const gone = await drop(child);
    t.equal(gone.status, 204, gone.bytes.toString());

    const subject = { mediaType: OCI_MANIFEST, digest: await hub.image('team/app'), size: 1 };
    const body = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [], subject };
    const signature = await hub.manifest('team/app', undefined, body);
    const aheadMs = Date.now() + 3_600_000;
    const records = [
      { key: [subject.digest, signature], atMs: aheadMs, value: { mediaType: OCI_MANIFEST, sizeBytes: 1 } },
    ];
    for (const id of hub.c.ids) {
      const path = '/v1/records/referrers?upstream=hub&repository=team/app';
      t.equal((await hub.c.put(id, path, JSON.stringify({ records }), JSON_TYPE)).status, 200);
    }
    const ahead = await drop(signature);
    t.equal(ahead.status, 204, ahead.bytes.toString());
    t.match(await hub.tag('team/app', signature), { status: 404 });
  },
);

t.test('another tag at the registry brings back nothing that it has not heard to be deleted', async (t) => {
  const hub = await Hub.start(t);
  const digest = await hub.image('team/app', 'v1');
  await hub.drained();
  hub.target.manifests.set('team/app:v2', digest);
  hub.target.fault = (method) => (method === 'DELETE' ? { status: 503 } : undefined);
  const drop = await hub.call('DELETE', `/v1/manifests?upstream=hub&repository=team/app&reference=${digest}`);
  t.equal(drop.status, 204, drop.bytes.toString());
  t.match(await hub.tag('team/app', 'v2'), { status: 404 });
  hub.target.fault = () => undefined;
  await hub.retry({});
  await hub.drained();
  t.notOk(hub.target.manifests.has(`team/app@${digest}`));
  hub.target.manifests.set(`team/app@${digest}`, digest);
  t.match(await hub.tag('team/app', 'v2'), { status: 200, digest }, 'pushed there again');
});

t.test('a tag whose manifest lost its link is what the registry says that it is', async (t) => {
  const hub = await Hub.start(t);
  const digest = await hub.image('team/app', 'v1');
  await hub.drained();
  const name = 'upstream=hub&repository=team/app';
  const path = `/v1/records/links?${name}`;
  const key = encodeURIComponent(JSON.stringify([digest]));
  const told = await Promise.all(hub.c.ids.map(async (id) => await hub.c.get(id, `${path}&key=${key}`)));
  const clocks = told.map(({ bytes }) => (JSON.parse(bytes.toString()) as Told).record?.atMs ?? 0);
  const records = [{ key: [digest], atMs: Math.max(...clocks) }];
  const revoked = [{ upstream: 'hub', repository: 'team/app', digest }];
  for (const id of hub.c.ids) {
    t.equal((await hub.c.put(id, path, JSON.stringify({ records }), JSON_TYPE)).status, 200);
    const told = { method: 'POST', path: '/v1/revocations', body: JSON.stringify({ revoked }) } as const;
    t.equal((await hub.c.call(id, { ...told, headers: JSON_TYPE })).status, 204);
  }
  t.match(await hub.tag('team/app', digest), { status: 404 });
  const fresh = `/v1/manifests?${name}&reference=v1&fresh=1`;
  t.match(await hub.call('GET', fresh), { status: 200, digest });
  for (const _ of hub.c.ids) t.match(await hub.tag('team/app', digest), { status: 200, digest });
});

/** One of three owners may not have it yet. */
interface Told {
  readonly record?: { readonly atMs: number };
}

const JSON_TYPE = { 'content-type': 'application/json' };

const NAME = { upstream: 'hub', repository: 'team/app', tag: 'v1' } as TagName;
const [OLD, NEW] = ['a', 'b'].map((one) => `sha256:${one.repeat(64)}` as Digest) as [Digest, Digest];

t.test('a registry that was asked before takes no tag back', async (t) => {
  await using folder = await DataFolder.open({ log: silentLogger() }, { dir: t.testdir(), id: 'a' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  let nowMs = 10;
  const tags = new Tags({
    records,
    members: {
      selfId: 'a',
      isSuspect: () => false,
      isGone: () => false,
      shard: () => ({ epoch: 0, sets: [['a']] }),
    },
    standing: {
      require: () => undefined,
      sender: { id: 'a', generation: 1, known: {} },
      standing: { epoch: 0 },
    },
    ...{ nowMs: () => nowMs, dateMs: () => nowMs },
  } as never);
  const rules = (mode: TagRules['mode']) =>
    ({ mode, policy: 'revalidate', ttlMs: 1, staleLimitMs: 1 }) as const;
  const seen = async (
    seenMs: number,
    mode: TagRules['mode'] = 'write-back',
    digest: Digest = OLD,
  ): Promise<Digest> => (await tags.move(NAME, digest, rules(mode), 'revalidate', { seenMs })).digest;
  t.equal(await seen(10), OLD);
  nowMs = 20;
  await tags.move(NAME, NEW, rules('write-back'), 'push');
  await tags.paid(NAME, NEW, true);
  nowMs = 30;
  t.equal(await seen(15), NEW, 'a push that got there meanwhile');
  t.equal(await seen(25), OLD, 'what the registry said after it');
  t.equal(await seen(27, 'write-back', NEW), NEW, 'asked after who was answered late');
  t.equal(await seen(26), NEW, 'asked before');
  nowMs = 40;
  await tags.delete(NAME);
  await t.rejects(seen(35), { code: 'TAG_UNKNOWN' }, 'deleted meanwhile');
  t.equal(await tags.read(NAME), undefined);
  t.equal(await seen(35, 'pull-through'), OLD, 'where the registry alone decides');
  t.equal(await seen(37, 'pull-through', NEW), NEW, 'asked after who was answered late there');
  t.equal(await seen(36, 'pull-through'), NEW, 'asked before there');
  t.equal(await seen(38, 'pull-through'), OLD, 'asked last there');
  nowMs = 5_000;
  await tags.move(NAME, NEW, rules('write-back'), 'push');
  await tags.paid(NAME, NEW, true);
  nowMs = 50;
  t.equal(await seen(45), NEW, 'a clock that was ahead: what is not known to be later');
  const asked = { seenMs: 45, knownMs: 5_000 };
  const { digest } = await tags.move(NAME, OLD, rules('write-back'), 'revalidate', asked);
  t.equal(digest, OLD, 'the registry was asked after that was on record');
  t.equal((await tags.read(NAME))?.checkedAtMs, 45, 'and the time is right again');
  const signal = AbortSignal.abort(new CodedError('TIMEOUT'));
  await t.rejects(tags.delete(NAME, undefined, 'delete', { signal }), { code: 'TIMEOUT' }, 'nobody waits');
  t.equal((await tags.read(NAME))?.digest, OLD, 'nothing is taken');
  await records.close();
});
