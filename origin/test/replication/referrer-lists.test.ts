import { randomBytes } from 'node:crypto';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import { openTargetClient } from '@sepia/upstream/client-setup';
import t, { type Test } from 'tap';
import { REFERRERS_API_MS } from '../../src/deadlines/upstreams.ts';
import { ImageCopy } from '../../src/replication/image-copy.ts';
import { ReferrerLists } from '../../src/replication/referrer-lists.ts';
import { Hub, until } from '../support/hub.ts';

const SIGNAL = new AbortController().signal;
const SUBJECT = digestOf(Buffer.from('an image'));

function referrer(more: object = {}): { digest: Digest; bytes: Buffer; mediaType: string } {
  const subject = { mediaType: OCI_MANIFEST, digest: SUBJECT, size: 8 };
  const json = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [], subject, ...more };
  const bytes = Buffer.from(JSON.stringify({ ...json, x: randomBytes(8).toString('hex') }));
  return { digest: digestOf(bytes), bytes, mediaType: OCI_MANIFEST };
}

async function bed(t: Test) {
  const target = await TestTarget.start(t);
  const to = { url: target.url, insecure: false, 'redirect-hosts': [], 'realm-hosts': [] };
  const client = openTargetClient(
    { env: {}, log: silentLogger(), nowMs: Date.now, dateMs: Date.now },
    { name: 'dr', to, caKey: 'ca', account: { name: 'dr', config: undefined }, connections: 4 },
  );
  t.teardown(async () => await client.close());
  const clock = { ms: 0 };
  const lists = new ReferrerLists({ client, log: silentLogger(), nowMs: () => clock.ms });
  return {
    target,
    client,
    clock,
    lists,
    push: async (one: ReturnType<typeof referrer>): Promise<void> => {
      const said = await client.putManifest('app', one.digest, one, SIGNAL);
      await lists.added('app', one, said, SIGNAL);
    },
    listed: () => target.referrersListed('app', SUBJECT),
    asked: (path: string) => target.requests.filter((line) => line.includes(path)).length,
  };
}

t.test('a registry that lists referrers gets no list', async (t) => {
  const { target, lists, push, listed, asked, clock } = await bed(t);
  target.listsReferrers = true;
  const one = referrer();
  await push(one);
  t.equal(asked('/referrers/'), 0, 'it said so');
  await lists.there('app', () => t.fail('nothing is read') as never, SIGNAL);
  await lists.leaves('app', one.digest, SIGNAL);
  clock.ms += REFERRERS_API_MS;
  await lists.there('app', async () => one, SIGNAL);
  t.equal(asked('/referrers/'), 1, 'asked again after a while');
  t.equal(listed(), undefined);
});

t.test('elsewhere the list has all that are put at once, and loses what goes', async (t) => {
  const { lists, push, listed, asked, target } = await bed(t);
  const all = Array.from({ length: 8 }, (_, at) => referrer({ artifactType: `application/x.${at}` }));
  await Promise.all(all.map(push));
  const digests = all.map(({ digest }) => digest).sort();
  t.same([...listed()!.map(({ digest }) => digest)].sort(), digests);
  t.match(
    listed()!.find(({ digest }) => digest === all[3]!.digest),
    { mediaType: OCI_MANIFEST, size: all[3]!.bytes.length, artifactType: 'application/x.3' },
  );
  t.ok(asked('/referrers/') <= all.length);
  for (const { digest } of all.slice(1)) await lists.leaves('app', digest, SIGNAL);
  t.match(listed(), [{ digest: all[0]!.digest }]);
  const puts = target.sent.size;
  await lists.there('app', async () => all[0]!, SIGNAL);
  await lists.there('app', async () => referrer({ subject: undefined }), SIGNAL);
  for (const code of ['MANIFEST_UNKNOWN', 'REPOSITORY_UNKNOWN', 'UPSTREAM_DENIED'] as const)
    await lists.there('app', async () => await Promise.reject(new CodedError(code)), SIGNAL);
  const silent = lists.there('app', async () => await Promise.reject(new CodedError('QUORUM_LOST')), SIGNAL);
  await t.rejects(silent, { code: 'QUORUM_LOST' });
  await lists.leaves('app', digestOf(Buffer.from('nowhere')), SIGNAL);
  t.equal(target.sent.size, puts, 'nothing is to be done');
});

t.test('a copy that ended before the list is made good; a refusal of the list fails no copy', async (t) => {
  const { target, push, listed, lists } = await bed(t);
  const one = referrer();
  const isList = (path: string): boolean => path.includes('/manifests/sha256-');
  target.fault = (method, path) => (method === 'PUT' && isList(path) ? { status: 503 } : undefined);
  await t.rejects(push(one), { code: 'BACKEND_DOWN' });
  target.fault = (method, path) => (method === 'PUT' && isList(path) ? { status: 403 } : undefined);
  await push(one);
  t.equal(listed(), undefined);
  target.fault = () => undefined;
  await lists.there('app', async () => one, SIGNAL);
  t.match(listed(), [{ digest: one.digest }]);
});

t.test('a list that is a tag here goes into the one at the target', async (t) => {
  const { target, client, lists, listed } = await bed(t);
  const tag = SUBJECT.replace(':', '-');
  const [ours, theirs] = [referrer(), referrer()];
  const listOf = (...all: ReturnType<typeof referrer>[]): ReturnType<typeof referrer> => {
    const manifests = all.map(({ digest, bytes, mediaType }) => ({ digest, mediaType, size: bytes.length }));
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
    return { digest: digestOf(bytes), bytes, mediaType: OCI_INDEX };
  };
  const list = listOf(ours);
  const here = new Map([ours, list].map((one) => [one.digest, one]));
  const deps = {
    manifests: { get: async (_name: unknown, { digest }: { digest: Digest }) => here.get(digest) },
    tags: { read: async (name: { tag: string }) => (name.tag === tag ? { digest: list.digest } : undefined) },
    referrersOf: async () => [],
  };
  const copied = async (): Promise<void> => {
    const to = {
      rule: { name: 'dr', referrers: { max: 9, depth: 2 } },
      matcher: { target: (repository: string) => repository, onlyWithSubject: () => false },
      gate: { acquire: async () => () => undefined },
      sending: new SingleFlight(),
      ...{ client, referrers: lists },
    } as unknown as ConstructorParameters<typeof ImageCopy>[1];
    const name = { upstream: 'local', repository: parseRepositoryName('app'), reference: tag };
    await new ImageCopy(deps as never, to, SIGNAL).run(name);
  };
  const digests = (): string[] => (listed() ?? []).map(({ digest }) => digest).sort();
  target.listsReferrers = true;
  await copied();
  t.ok(target.manifests.has(`app@${list.digest}`), 'nothing stands there: as it is');
  await client.putManifest('app', theirs.digest, theirs, SIGNAL);
  await client.putManifest('app', tag, listOf(theirs), SIGNAL);
  await copied();
  t.same(digests(), [ours.digest, theirs.digest].sort());
  const puts = target.requests.filter((line) => line.startsWith('PUT')).length;
  await copied();
  t.equal(target.requests.filter((line) => line.startsWith('PUT')).length, puts, 'nothing is to be done');
  await client.putManifest('app', tag, theirs, SIGNAL);
  await copied();
  t.same(digests(), [ours.digest], 'over what is no list');
});

t.test('a list at the target that names what has gone there takes ours all the same', async (t) => {
  const [ours, theirs, gone] = [referrer(), referrer(), referrer()];
  const textOf = (...all: ReturnType<typeof referrer>[]): Buffer => {
    const manifests = all.map(({ digest, bytes, mediaType }) => ({ digest, mediaType, size: bytes.length }));
    return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
  };
  const namesOf = (bytes: Buffer): string[] =>
    (JSON.parse(bytes.toString()) as { manifests: { digest: string }[] }).manifests.map((one) => one.digest);
  const there = new Set<string>([ours.digest, theirs.digest]);
  let list = textOf(theirs, gone);
  const client = {
    host: 'dr',
    readManifest: async () => list,
    headManifest: async (_: string, digest: string) => (there.has(digest) ? digest : undefined),
    putManifest: async (_: string, _tag: string, { bytes }: { bytes: Buffer }) => {
      if (!namesOf(bytes).every((one) => there.has(one)))
        throw new CodedError('UPSTREAM_DENIED', { detail: { upstreamCode: 'MANIFEST_BLOB_UNKNOWN' } });
      list = bytes;
    },
  };
  const lists = new ReferrerLists({ client: client as never, log: silentLogger(), nowMs: () => 0 });
  const bytes = textOf(ours);
  const here = { digest: digestOf(bytes), bytes, mediaType: OCI_INDEX };
  const merge = async (): Promise<void> =>
    await lists.merge('app', SUBJECT, here, async () => void t.fail('not over it'), SIGNAL);
  await merge();
  t.same(namesOf(list).sort(), [ours.digest, theirs.digest].sort());
  there.delete(ours.digest);
  list = textOf(theirs, gone);
  await t.rejects(merge(), { code: 'UPSTREAM_DENIED' }, 'ours is not there');
});

t.test('write-back keeps the list at the registry, also by a delete', async (t) => {
  const hub = await Hub.start(t);
  const image = await hub.image('team/app', 'v1');
  const { bytes } = await hub.tag('team/app', image);
  const subject = { mediaType: OCI_MANIFEST, digest: image, size: bytes.length };
  const sign = async (reference?: string): Promise<string> => {
    const layers = [await hub.blob('team/app', randomBytes(9))];
    const body = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers, subject };
    return await hub.manifest('team/app', reference, body);
  };
  const signatures = [await sign(), await sign(), await sign('signed')];
  await hub.drained();
  const listed = (): string[] =>
    (hub.target.referrersListed('team/app', image) ?? []).map(({ digest }) => digest).sort();
  t.same(listed(), [...signatures].sort());
  const path = `/v1/manifests?upstream=hub&repository=team/app&reference=${signatures[0]}`;
  t.equal((await hub.call('DELETE', path)).status, 204);
  await hub.drained();
  t.same(listed(), signatures.slice(1).sort());
  t.notOk(hub.target.manifests.has(`team/app@${signatures[0]}`));
});

t.test('a list that a client pushed goes over ours, and names all that ours did', async (t) => {
  const hub = await Hub.start(t, { 'on-conflict': 'stop' });
  const image = await hub.image('team/app', 'v1');
  const { bytes } = await hub.tag('team/app', image);
  const subject = { mediaType: OCI_MANIFEST, digest: image, size: bytes.length };
  const sign = async (): Promise<{ mediaType: string; digest: string; size: number }> => {
    const body = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [], subject, x: randomBytes(9) };
    const digest = await hub.manifest('team/app', undefined, body);
    return { mediaType: OCI_MANIFEST, digest, size: JSON.stringify(body).length };
  };
  const isOn = { held: false };
  hub.target.fault = (method) => (isOn.held && method === 'PUT' ? { status: 503 } : undefined);
  const [first, second] = [await sign(), await sign()];
  await hub.drained();
  const listed = (): string[] =>
    (hub.target.referrersListed('team/app', image) ?? []).map(({ digest }) => digest).sort();
  const tag = image.replace(':', '-');
  const list = { schemaVersion: 2, mediaType: OCI_INDEX, annotations: { by: 'a client' } };
  isOn.held = true;
  const third = await sign();
  const pushed = await hub.manifest('team/app', tag, { ...list, manifests: [first, third] });
  isOn.held = false;
  await until(async () => {
    const jobs = await hub.jobs();
    for (const { state, error } of jobs) if (state === 'dead') throw new Error(error);
    return jobs.length === 0;
  }, 'nothing waits');
  t.ok(hub.target.manifests.has(`team/app@${pushed}`));
  t.same(listed(), [first, second, third].map(({ digest }) => digest).sort());
  isOn.held = true;
  await hub.manifest('team/app', tag, { ...list, manifests: [first] });
  const isTheirs = hub.direct('team/app', tag);
  isOn.held = false;
  await hub.dead();
  t.equal(hub.target.manifests.get(`team/app:${tag}`), isTheirs, 'what others put there is no list of ours');
});
