import type { ServerResponse } from 'node:http';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { Blobs } from '../../src/blobs/blobs.ts';
import { startCluster } from '../support/cluster.ts';
import { TestUpstream } from '../support/upstream.ts';

t.test('who joined the fetch of another name is not told what that name is refused', async (t) => {
  const [one, other] = [await TestUpstream.start(t), await TestUpstream.start(t)];
  const hubs = Object.entries({ one, other }).map(([name, { url }]) => ({
    ...{ name, url, mode: 'pull-through' },
  }));
  const c = await startCluster(t, { origins: 1, upstreams: hubs });
  const bytes = Buffer.from(bytesOf(600_000, 1));
  const digest = one.addBlob(bytes);
  other.addBlob(bytes);
  const held: ServerResponse[] = [];
  one.fault = (req, res) => {
    if (req.method === 'HEAD' || req.url?.includes('/secret/') !== true) return false;
    held.push(res);
    return true;
  };
  const get = async (upstream: string, repository: string) =>
    await c.get('o1', `/v1/blobs/${digest}?upstream=${upstream}&repository=${repository}`);
  const refused = get('one', 'secret/app');
  await until(() => held.length > 0, 'it is fetched');
  const asked = [get('other', 'team/app'), get('one', 'open/app')];
  await until(
    () => [one, other].every(({ requests }) => requests.some((line) => /HEAD .*\/(team|open)\//.test(line))),
    'they prove to have it',
  );
  // They join what is under way.
  await c.get('o1', `/v1/blobs/${digest}/where?upstream=other&repository=team/app`);
  for (const res of held) res.writeHead(403).end();
  t.equal((await refused).status, 403);
  for (const answer of await Promise.all(asked)) {
    t.equal(answer.status, 200, answer.bytes.toString().slice(0, 300));
    t.ok(answer.bytes.equals(bytes));
  }
});

t.test('what another name fetched while it was proven is not fetched again', async (t) => {
  const hub = await TestUpstream.start(t);
  const c = await startCluster(t, {
    origins: 1,
    upstreams: [{ name: 'hub', url: hub.url, mode: 'pull-through' }],
  });
  const bytes = Buffer.from(bytesOf(600_000, 1));
  const digest = hub.addBlob(bytes);
  const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size: bytes.length };
  const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: layer, layers: [layer] };
  hub.addManifest('open/app', 'v1', manifest, OCI_MANIFEST);
  const linked = await c.get('o1', '/v1/manifests?upstream=hub&repository=open/app&reference=v1');
  t.equal(linked.status, 200);
  const [read, shown] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  hub.fault = (req, res) => {
    const isShown = req.method === 'HEAD' && req.url?.includes('/open/') === true;
    const isRead = req.method === 'GET' && req.url?.includes('/first/') === true;
    if (!isShown && !isRead) return false;
    void (isShown ? shown : read).promise.then(() => {
      res.writeHead(200, { 'content-length': bytes.length }).end(isShown ? undefined : bytes);
    });
    return true;
  };
  const isAsked = (line: RegExp) => () => hub.requests.some((request) => line.test(request));
  const get = async (repository: string) =>
    await c.get('o1', `/v1/blobs/${digest}?upstream=hub&repository=${repository}`);
  const first = get('first/app');
  await until(isAsked(/^GET .*\/first\/.*\/blobs\//), 'it is fetched');
  const second = get('open/app');
  await until(isAsked(/^HEAD .*\/open\/.*\/blobs\//), 'it is to be proven');
  read.resolve();
  t.equal((await first).status, 200);
  await until(async () => {
    const { bytes: said } = await c.get('o1', `/v1/blobs/${digest}/where?upstream=hub&repository=first/app`);
    return said.includes('final');
  }, 'it is stored');
  shown.resolve();
  t.ok((await second).bytes.equals(bytes));
  t.same(
    hub.requests.filter((line) => /^GET .*\/open\/.*\/blobs\//.test(line)),
    [],
  );
});

t.test('who waited for room joins what another name began meanwhile only once it is proven', async (t) => {
  const digest = digestOf(Buffer.from('a secret'));
  const nameOf = (text: string): BlobName => ({
    ...{ upstream: 'one', digest },
    repository: parseRepositoryName(text),
  });
  const [own, secret] = [nameOf('open/app'), nameOf('secret/app')];
  for (const isAllowed of [false, true]) {
    const [waiting, room] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const asked: unknown[] = [];
    const begun = { name: secret };
    let running: object | undefined;
    const blobs = new Blobs({
      proofs: {
        requireShown: async () => undefined,
        isProven: () => isAllowed && asked.length > 0,
        require: async (name: BlobName, held: object) => {
          asked.push([name, held]);
          if (!isAllowed) throw new CodedError('BLOB_UNKNOWN');
        },
      },
      fetches: {
        running: () => running,
        shown: (fetch: object) => fetch,
        begin: async () => {
          waiting.resolve();
          await room.promise;
          return begun;
        },
      },
    } as unknown as ConstructorParameters<typeof Blobs>[0]);
    const joined = blobs.begin(own, { wantAll: true, sizeHint: undefined }, new AbortController().signal);
    await waiting.promise;
    running = begun;
    room.resolve();
    if (isAllowed) t.equal(await joined, begun as unknown);
    else await t.rejects(joined, { code: 'BLOB_UNKNOWN' });
    t.same(asked, [[own, { provenance: [secret] }]]);
  }
});
