import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream-image';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import t, { type Test } from 'tap';
import { openTargetClient } from '../src/client-setup.ts';
import { failure, REPOSITORY, soon } from './client-fixture.ts';

const MIB = 1024 * 1024;

async function start(t: Test) {
  const target = await TestTarget.start(t);
  const to = { url: target.url, insecure: false, 'redirect-hosts': [], 'realm-hosts': [] };
  const client = openTargetClient(
    { env: {}, log: silentLogger(), nowMs: Date.now, dateMs: Date.now },
    { name: 'behind', to, caKey: 'ca', account: { name: 'behind', config: undefined }, connections: 4 },
  );
  t.teardown(async () => await client.close());
  return {
    target,
    client,
    /** Sends a blob that is `bytes`, as whoever copies does. */
    send: async (bytes: Buffer): Promise<void> => {
      const blob = {
        ...{ repository: REPOSITORY, digest: digestOf(bytes), sizeBytes: bytes.length },
        open: (from: number, end: number) =>
          Readable.from([bytes.subarray(from, end)], { objectMode: false }),
      };
      const begun = await client.begin(REPOSITORY, undefined, soon());
      if (begun.type === 'session') await client.upload(blob, begun.url, soon());
    },
    has: async (bytes: Buffer): Promise<boolean> => await client.hasBlob(REPOSITORY, digestOf(bytes), soon()),
    stored: (bytes: Buffer) => target.blobs.get(`${REPOSITORY}@${digestOf(bytes)}`),
  };
}

t.test('a blob arrives whole, in one request or in chunks', async (t) => {
  const { send, has, stored } = await start(t);
  for (const length of [0, 1, 300_000, 5 * MIB]) {
    const bytes = seededBytes(length, `${length}`);
    t.notOk(await has(bytes), `${length} bytes`);
    await send(bytes);
    t.ok(await has(bytes));
    t.ok(stored(bytes)?.equals(bytes));
  }
});

t.test('a manifest is read as it is now; what is too large or not there is told apart', async (t) => {
  const { target, client } = await start(t);
  const read = async () => await client.readManifest(REPOSITORY, 'list', soon());
  t.equal(await read(), undefined);
  for (const text of ['{"mediaType":"a/b"}', '{"mediaType":"a/b","more":1}']) {
    const digest = digestOf(Buffer.from(text));
    target.manifests.set(`${REPOSITORY}:list`, digest);
    target.manifestBytes.set(digest, Buffer.from(text));
    t.equal((await read())?.toString(), text);
  }
  const large = Buffer.from(JSON.stringify({ mediaType: 'a/b', more: 'x'.repeat(4 * MIB) }));
  target.manifests.set(`${REPOSITORY}:list`, digestOf(large));
  target.manifestBytes.set(digestOf(large), large);
  await failure(read(), 'UPSTREAM_LIES');
});

t.test('a registry that is away, refuses, or asks for patience is told apart', async (t) => {
  const { target, send, has } = await start(t);
  const bytes = seededBytes(50_000, 'x');
  for (const [status, code] of [
    [403, 'UPSTREAM_DENIED'],
    [429, 'UPSTREAM_LIMITED'],
    [500, 'BACKEND_DOWN'],
  ] as const) {
    target.fault = () => ({ status, headers: { 'retry-after': '0' } });
    await failure(send(bytes), code);
  }
  target.fault = (method) => (method === 'PUT' ? { cutAfterBytes: 10_000 } : undefined);
  await failure(send(bytes), 'BACKEND_DOWN');
  t.notOk(target.blobs.size, 'nothing half');
  target.fault = () => undefined;
  await send(bytes);
  t.ok(await has(bytes));
  await target.down();
  await failure(has(bytes), 'BACKEND_DOWN');
});
