import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream-image';
import { FAKE_TLS } from '@sepia/test-support/upstream/fake-upstream-tls';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import t, { type Test } from 'tap';
import { openTargetClient } from '../src/client-setup.ts';
import { failure, REPOSITORY, soon } from './client-fixture.ts';

const MIB = 1024 * 1024;

async function listening(t: Test, server: Server | TlsServer): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function start(t: Test, url?: string, tls: { readonly ca?: string; readonly insecure?: boolean } = {}) {
  const target = await TestTarget.start(t);
  const to = { url: url ?? target.url, insecure: false, 'redirect-hosts': [], 'realm-hosts': [], ...tls };
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

t.test('a registry that takes no chunks, or none so large, gets a blob in one request', async (t) => {
  for (const status of [400, 404, 405, 413, 416, 501]) {
    const { target, send, stored } = await start(t);
    target.fault = (method) => (method === 'PATCH' ? { status } : undefined);
    const bytes = seededBytes(5 * MIB, `${status}`);
    await send(bytes);
    t.ok(stored(bytes)?.equals(bytes), `${status}`);
    const patches = (): number => target.requests.filter((one) => one.startsWith('PATCH')).length;
    // What may have been too large is tried in smaller parts.
    const tries = [413, 416].includes(status) ? 3 : 1;
    t.equal(patches(), tries, 'what is refused is not sent again');
    const next = seededBytes(5 * MIB, `${status} next`);
    await send(next);
    t.ok(stored(next)?.equals(next));
    t.equal(patches(), tries, 'nor is the next one');
  }
  const { target, send, stored } = await start(t);
  let puts = 0;
  target.fault = (method) => (method === 'PUT' && ++puts === 1 ? { status: 500 } : undefined);
  const bytes = seededBytes(5 * MIB, 'empty PUT');
  await send(bytes);
  t.ok(stored(bytes)?.equals(bytes), 'nor where it fails at the empty request that closes a session');
  const large = seededBytes(5 * MIB, 'too large for one request');
  target.fault = (method) => (method === 'PUT' ? { status: 413 } : undefined);
  await t.rejects(send(large), 'whole, as the one before');
  target.fault = () => undefined;
  await send(large);
  t.ok(target.requests.at(-2)?.startsWith('PATCH'), 'in chunks again');
  target.fault = () => ({ status: 403 });
  await failure(send(seededBytes(5 * MIB, 'no right')), 'UPSTREAM_DENIED');
});

t.test(
  'a registry, or a gateway before it, that takes no large body gets a blob in smaller chunks',
  async (t) => {
    for (const [status, mostBytes] of [
      [413, 4 * MIB],
      [413, MIB],
      [416, 4 * MIB],
    ] as const) {
      const { target, send, stored } = await start(t);
      const refused = { status, headers: { range: '0-0' } };
      target.fault = (_method, _path, _query, bytes) => (bytes > mostBytes ? refused : undefined);
      for (const length of [9 * MIB + 5, 2 * MIB, 10]) {
        const bytes = seededBytes(length, `${status} ${mostBytes} ${length}`);
        await send(bytes);
        t.ok(stored(bytes)?.equals(bytes), `${status} above ${mostBytes}: ${length} bytes`);
      }
      const before = target.requests.length;
      const next = seededBytes(5 * MIB, `${status} ${mostBytes} next`);
      await send(next);
      t.ok(stored(next)?.equals(next));
      const sent = target.requests.slice(before).filter((one) => one.startsWith('PATCH')).length;
      t.equal(sent, Math.ceil((5 * MIB) / mostBytes), 'what is known is not tried again');
    }
    const { target, send, stored } = await start(t);
    target.fault = (_method, _path, _query, bytes) => (bytes > MIB ? { status: 413 } : undefined);
    const small = seededBytes(3 * MIB, 'small');
    await send(small);
    t.ok(stored(small)?.equals(small), 'also one that would go in one request');
  },
);

t.test('a session that the target lost is begun anew', async (t) => {
  for (const length of [300_000, 9 * MIB]) {
    const { target, send, stored } = await start(t);
    const unknown = { status: 404 };
    let posts = 0;
    target.fault = (method) => {
      if (method === 'POST') posts += 1;
      // What closes that of a large one, the only request of a small one.
      return posts === 1 && method === 'PUT' ? unknown : undefined;
    };
    const bytes = seededBytes(length, `lost ${length}`);
    await send(bytes);
    t.ok(stored(bytes)?.equals(bytes), `${length} bytes`);
    t.equal(posts, 2);
    if (length < 4 * MIB) continue;
    const before = target.requests.length;
    await send(seededBytes(length, 'next'));
    t.ok(
      target.requests.slice(before).some((one) => one.startsWith('PATCH')),
      'and chunks are taken as before',
    );
  }
  const { target, send, stored } = await start(t);
  let puts = 0;
  target.fault = (method) => (method === 'PUT' ? { status: 404 } : undefined);
  const bytes = seededBytes(1_000, 'each lost');
  await failure(send(bytes), 'BACKEND_DOWN');
  target.fault = (method) => {
    if (method !== 'PUT' || ++puts > 1) return undefined;
    target.blobs.set(`${REPOSITORY}@${digestOf(bytes)}`, bytes);
    return { status: 404 };
  };
  await send(bytes);
  t.equal(puts, 1, 'what is there is not sent again: only the answer was lost');
  t.ok(stored(bytes)?.equals(bytes));
});

t.test('a target that loses each session of chunks gets a blob in one request', async (t) => {
  const { target, send, stored } = await start(t);
  // Only the empty PUT that closes one has no body.
  target.fault = (method, _path, _query, bytes) =>
    method === 'PUT' && bytes === 0 ? { status: 404 } : undefined;
  for (const name of ['first', 'next']) {
    const before = target.requests.length;
    const bytes = seededBytes(9 * MIB, name);
    await send(bytes);
    t.ok(stored(bytes)?.equals(bytes), name);
    const patches = target.requests.slice(before).filter((one) => one.startsWith('PATCH'));
    t.equal(patches.length, name === 'first' ? 2 : 0);
  }
});

t.test('a mount that is not done is an upload, and one that nobody goes on with is ended', async (t) => {
  const { target, client, stored } = await start(t);
  const bytes = seededBytes(900, 'mount');
  const mount = { digest: digestOf(bytes), from: 'team/other' };
  for (const status of [401, 403, 404, 500]) {
    target.fault = (_method, _path, query) => (query.has('mount') ? { status } : undefined);
    t.equal((await client.begin(REPOSITORY, mount, soon())).type, 'session', `${status}`);
  }
  target.fault = () => undefined;
  const begun = await client.begin(REPOSITORY, mount, soon());
  if (begun.type !== 'session') return t.fail('nothing is there to mount');
  await client.cancel(REPOSITORY, begun.url, soon());
  t.ok(target.requests.at(-1)?.startsWith(`DELETE /v2/${REPOSITORY}/blobs/uploads/`));
  t.notOk(stored(bytes));
  await failure(client.cancel(REPOSITORY, begun.url, soon()), 'UPLOAD_UNKNOWN');
});

t.test('whatever says that it was taken was taken; signed addresses stay as they are', async (t) => {
  for (const status of [200, 201, 202, 204]) {
    const seen: string[] = [];
    const server = createServer((req, res) => {
      seen.push(`${req.method} ${req.url}`);
      const location = `/v2/${REPOSITORY}/blobs/uploads/1?sig=a%20b~c%2Fd==`;
      req.resume().on('end', () => {
        res.writeHead(status, req.method === 'POST' ? { location } : {}).end();
      });
    });
    const { client, send } = await start(t, await listening(t, server));
    await send(seededBytes(5 * MIB, `${status}`));
    await send(seededBytes(9, `${status}`));
    await client.putManifest(REPOSITORY, 'v1', { bytes: Buffer.from('{}'), mediaType: 'a/b' }, soon());
    t.equal(seen.filter((one) => /^P(?:ATCH|UT) .*\?sig=a%20b~c%2Fd==/.test(one)).length, 3);
    t.ok(seen.some((one) => one.includes(`d==&digest=sha256%3A`)));
  }
});

t.test('a registry that is asked by https leads no blob to another host in plain', async (t) => {
  const taken: string[] = [];
  const store = createServer((req, res) => {
    taken.push(`${req.method}`);
    req.resume().on('end', () => res.writeHead(201).end());
  });
  const location = `${await listening(t, store)}/upload`;
  const registry = createTlsServer(FAKE_TLS, (req, res) => {
    req.resume().on('end', () => res.writeHead(202, { location }).end());
  });
  const url = (await listening(t, registry)).replace('http:', 'https:');
  const ca = `${t.testdir({ 'ca.pem': FAKE_TLS.cert })}/ca.pem`;
  const bytes = seededBytes(100, 'plain');
  const { send } = await start(t, url, { ca });
  const error = await failure(send(bytes), 'BACKEND_DOWN');
  t.match(error.message, /leaves https/);
  t.same(taken, []);
  await (await start(t, url, { insecure: true })).send(bytes);
  t.same(taken, ['PUT'], 'where the operator allows it');
});
