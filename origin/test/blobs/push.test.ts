import { randomBytes } from 'node:crypto';
import { type Digest, digestOf } from '@sepia/base/digest';
import { shardKey } from '@sepia/cluster/cluster';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { hang, startCluster, type TestCluster } from '../support/cluster.ts';

const LOCAL = 'upstream=local&repository=team/app';
const MIB = 1024 * 1024;

async function push(c: TestCluster, id: string, blob: Buffer): Promise<{ status: number; text: string }> {
  const begun = await c.call(id, { method: 'POST', path: `/v1/uploads?${LOCAL}` });
  const { uploadId } = JSON.parse(begun.bytes.toString()) as { uploadId: string };
  await c.call(id, { method: 'PATCH', path: `/v1/uploads/${uploadId}?${LOCAL}`, body: blob });
  const done = await c.call(id, {
    method: 'PUT',
    path: `/v1/uploads/${uploadId}?${LOCAL}&digest=${digestOf(blob)}`,
  });
  return { status: done.status, text: done.bytes.toString() };
}

async function stateAt(c: TestCluster, id: string, digest: Digest): Promise<string> {
  const answer = await c.get(id, `/v1/blobs/${digest}/where?${LOCAL}`);
  return (JSON.parse(answer.bytes.toString()) as { state: string }).state;
}

/** Each of these origins says that of the blob. */
async function areAll(
  c: TestCluster,
  ids: readonly string[],
  digest: Digest,
  state: string,
): Promise<boolean> {
  const states = await Promise.all(ids.map(async (id) => await stateAt(c, id, digest)));
  return states.every((one) => one === state);
}

t.test('seven origins: a blob lands on its three owners, wherever it was staged', async (t) => {
  const c = await startCluster(t, { origins: 7 });
  for (const id of ['o1', 'o4', 'o7']) {
    const blob = randomBytes(2 * MIB + 11);
    const digest = digestOf(blob);
    const { status, text } = await push(c, id, blob);
    t.equal(status, 201, text);
    const { owners } = c.cluster.origins(digest);
    await until(async () => await areAll(c, owners, digest, 'final'), 'all owners have it');
    await until(async () => {
      const others = c.ids.filter((one) => !owners.includes(one));
      return await areAll(c, others, digest, 'none');
    }, 'nobody else keeps it');
    for (const one of c.ids) {
      const got = await c.get(one, `/v1/blobs/${digest}?${LOCAL}`);
      t.ok(got.bytes.equals(blob), `${one}: ${got.status}`);
    }
  }
});

t.test(
  'the same content pushed by many at once, and again when it is there: every push is taken',
  async (t) => {
    const c = await startCluster(t, { origins: 7 });
    for (const pushers of [2, 8]) {
      const blob = randomBytes(MIB + pushers);
      for (const round of ['new', 'there already']) {
        const done = await Promise.all(
          Array.from({ length: pushers }, (_, at) => push(c, c.ids[at % 3]!, blob)),
        );
        t.same(
          done.filter((one) => one.status !== 201),
          [],
          `${pushers} pushers, ${round}`,
        );
      }
      const digest = digestOf(blob);
      const { owners } = c.cluster.origins(digest);
      await until(async () => await areAll(c, owners, digest, 'final'), 'all owners have it');
    }
  },
);

t.test('one of three down: pushes and pulls go on, and it gets its copies when it is back', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  await c.stop('o3');
  const blob = randomBytes(MIB + 3);
  const digest = digestOf(blob);
  const startedMs = Date.now();
  const { status, text } = await push(c, 'o1', blob);
  t.equal(status, 201, text);
  t.ok(Date.now() - startedMs < 10_000, `${Date.now() - startedMs} ms`);
  const got = await c.get('o2', `/v1/blobs/${digest}?${LOCAL}`);
  t.ok(got.bytes.equals(blob));
  await c.start('o3');
  await until(async () => (await stateAt(c, 'o3', digest)) === 'final', 'o3 catches up');
});

t.test('one of three hangs: it costs at most a second', async (t) => {
  let slow: string[] = [];
  // The machine may stand still in the middle of one of them: it does not each time.
  for (let tries = 0; tries < 3 && (tries === 0 || slow.length > 0); tries++) slow = await slowBesideHung(t);
  t.same(slow, []);
});

/** What took longer than it may while one of three hangs; the answers must be right. */
async function slowBesideHung(t: Test): Promise<string[]> {
  const c = await startCluster(t, { origins: 3 });
  const took: { what: string; ms: number; mostMs: number }[] = [];
  /** Notes how long it took; `mostMs`: on a machine that does nothing else. */
  const timed = async <T>(what: string, mostMs: number, run: () => Promise<T>): Promise<T> => {
    const startedMs = Date.now();
    const result = await run();
    took.push({ what, ms: Date.now() - startedMs, mostMs });
    return result;
  };
  const healthy = async (): Promise<number> => {
    const startedMs = Date.now();
    t.equal((await push(c, 'o1', randomBytes(MIB + 3))).status, 201);
    return Date.now() - startedMs;
  };
  const blob = randomBytes(MIB + 4);
  const digest = digestOf(blob);
  t.equal((await push(c, 'o1', blob)).status, 201);
  const beforeMs = await healthy();
  const resume = await hang(t, c, 'o3');
  for (const id of ['o1', 'o2']) {
    const got = await timed(id, 1_000, async () => await c.get(id, `/v1/blobs/${digest}?${LOCAL}`));
    t.ok(got.bytes.equals(blob), `${id}: ${got.status} ${got.bytes.toString().slice(0, 200)}`);
    const path = `/v1/blobs/${digestOf(randomBytes(3))}?${LOCAL}`;
    const unknown = await timed(`${id}: 404`, 1_000, async () => await c.get(id, path));
    t.equal(unknown.status, 404, 'two noes of three owners are a no');
  }
  const second = randomBytes(MIB + 5);
  t.equal((await timed('push', 3_000, async () => await push(c, 'o2', second))).status, 201);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      layers: [{ mediaType: 'a/b', digest: digestOf(second), size: second.length }],
    }),
  );
  const tag = `/v1/manifests?${LOCAL}&reference=v1`;
  const type = { 'content-type': OCI_MANIFEST };
  const put = await timed('manifest', 2_000, async () => await c.put('o2', tag, manifest, type));
  t.equal(put.status, 201, put.bytes.toString());
  t.equal((await timed('tag read', 1_000, async () => await c.get('o1', tag))).status, 200);
  await resume();
  await c.start('o3');
  await Promise.all([...c.origins.values()].map(async (origin) => await origin.whenSettled()));
  /** More where the machine is busy: a push took so long while nobody hung, before or after. */
  const busyMs = 5 * Math.max(beforeMs, await healthy());
  return took.filter(({ ms, mostMs }) => ms >= mostMs + busyMs).map(({ what, ms }) => `${what}: ${ms} ms`);
}

t.test('two of three down: nothing is acknowledged, and nobody says 404', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  const blob = randomBytes(1000);
  const digest = digestOf(blob);
  await c.stop('o2');
  await c.stop('o3');
  const { status } = await push(c, 'o1', blob);
  t.equal(status, 503);
  const got = await c.get('o1', `/v1/blobs/${digest}?${LOCAL}`);
  t.equal(got.status, 503);
  t.equal(got.headers['sepia-error'], 'QUORUM_LOST');
  for (const id of ['o2', 'o3']) await c.start(id);
  await until(
    async () => (await c.get('o1', `/v1/blobs/${digest}?${LOCAL}`)).status !== 503,
    'they say what they have',
  );
  t.equal((await c.get('o1', `/v1/blobs/${digest}?${LOCAL}`)).status, 404, 'one copy is none: push it again');
});

t.test('seven origins, an owner down: a stand-in counts and hands back', async (t) => {
  const c = await startCluster(t, { origins: 7 });
  const blob = randomBytes(MIB);
  const digest = digestOf(blob);
  const { owners } = c.cluster.origins(digest);
  const shard = c.cluster.origins(shardKey('local', 'team/app')).owners;
  // Links have no stand-ins: only one of their owners may be away.
  const away = owners.filter((id) => !shard.includes(id)).slice(0, 2);
  if (away.length < 2) away.push(...owners.filter((id) => !away.includes(id)).slice(0, 1));
  const down = away.slice(0, 2);
  for (const id of down) await c.stop(id);
  const up = c.ids.filter((id) => !down.includes(id));
  const { status, text } = await push(c, up[0]!, blob);
  t.equal(status, 201, text);
  const got = await c.get(up[1]!, `/v1/blobs/${digest}?${LOCAL}`);
  t.ok(got.bytes.equals(blob), `${got.status}`);
  for (const id of down) await c.start(id);
  await until(async () => await areAll(c, owners, digest, 'final'), 'owners get their copies');
});

t.test('a restart keeps what was acknowledged, and forgets sessions', async (t) => {
  const c = await startCluster(t, { origins: 1 });
  const blob = randomBytes(3 * MIB + 1);
  const digest = digestOf(blob);
  t.equal((await push(c, 'o1', blob)).status, 201);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      layers: [{ mediaType: 'a/b', digest, size: blob.length }],
    }),
  );
  await c.put('o1', `/v1/manifests?${LOCAL}&reference=v1`, manifest, { 'content-type': OCI_MANIFEST });
  const begun = await c.call('o1', { method: 'POST', path: `/v1/uploads?${LOCAL}` });
  const { uploadId } = JSON.parse(begun.bytes.toString()) as { uploadId: string };
  await c.stop('o1');
  await c.start('o1');
  const got = await c.get('o1', `/v1/blobs/${digest}?${LOCAL}`);
  t.ok(got.bytes.equals(blob));
  const tag = await c.get('o1', `/v1/manifests?${LOCAL}&reference=v1`);
  t.ok(tag.bytes.equals(manifest));
  const session = await c.get('o1', `/v1/uploads/${uploadId}?${LOCAL}`);
  t.equal(session.status, 404);
  t.match(session.bytes.toString(), /BLOB_UPLOAD_UNKNOWN/);
});

t.test('bad uploads are refused by name', async (t) => {
  const c = await startCluster(t, {
    origins: 1,
    upstreams: [{ name: 'hub', url: 'http://127.0.0.1:1', mode: 'pull-through' }],
    config: 'max-uploads: 2',
  });
  const blob = randomBytes(100);
  const other = digestOf(randomBytes(5));
  const one = await c.put('o1', `/v1/blobs/${other}?${LOCAL}`, blob);
  t.equal(one.status, 400);
  t.equal(one.headers['sepia-error'], 'DIGEST_MISMATCH');
  const good = await c.put('o1', `/v1/blobs/${digestOf(blob)}?${LOCAL}`, blob);
  t.equal(good.status, 201, good.bytes.toString());
  const again = await c.put('o1', `/v1/blobs/${digestOf(blob)}?${LOCAL}`, blob);
  t.equal(again.status, 201, 'the same again changes nothing');
  const sha512 = digestOf(blob, 'sha512');
  t.equal((await c.put('o1', `/v1/blobs/${sha512}?${LOCAL}`, blob)).status, 201);
  t.equal(
    (await c.call('o1', { method: 'PUT', path: `/v1/blobs/${digestOf(Buffer.alloc(0))}?${LOCAL}` })).status,
    201,
    'an empty blob is a blob',
  );
  const empty = await c.get('o1', `/v1/blobs/${digestOf(Buffer.alloc(0))}?${LOCAL}`);
  t.equal(empty.status, 200);
  t.equal(empty.bytes.length, 0);
  const readOnly = await c.call('o1', { method: 'POST', path: '/v1/uploads?upstream=hub&repository=a/b' });
  t.equal(readOnly.status, 403);
  t.match(readOnly.bytes.toString(), /pull-through/);
  for (let count = 0; count < 2; count++)
    t.equal((await c.call('o1', { method: 'POST', path: `/v1/uploads?${LOCAL}` })).status, 202);
  const full = await c.call('o1', { method: 'POST', path: `/v1/uploads?${LOCAL}` });
  t.equal(full.status, 429);
  t.equal(
    (await c.call('o1', { method: 'POST', path: '/v1/uploads?upstream=nope&repository=a/b' })).status,
    404,
  );
  t.equal((await c.call('o1', { method: 'POST', path: '/v1/uploads?upstream=local' })).status, 400);
  t.equal(
    (await c.call('o1', { method: 'POST', path: '/v1/uploads?upstream=local&repository=A' })).status,
    400,
  );
  const unsigned = await fetch(`${c.origins.get('o1')!.url}/v1/status`);
  t.equal(unsigned.status, 403);
  t.equal(unsigned.headers.get('sepia-cluster'), null);
  const signed = await c.get('o1', '/v1/status');
  t.equal(signed.headers['sepia-cluster'], '1');
});

t.test('a chunk with other bytes of the same length is found at the end of its upload', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  const blob = randomBytes(MIB);
  const digest = digestOf(blob);
  const [first, second] = [blob.subarray(0, MIB / 2), blob.subarray(MIB / 2)];
  const upload = async (chunks: readonly Buffer[]) => {
    const begun = await c.call('o1', { method: 'POST', path: `/v1/uploads?${LOCAL}` });
    const { uploadId } = JSON.parse(begun.bytes.toString()) as { uploadId: string };
    const path = `/v1/uploads/${uploadId}?${LOCAL}`;
    for (const body of chunks) t.equal((await c.call('o1', { method: 'PATCH', path, body })).status, 202);
    return await c.call('o1', { method: 'PUT', path: `${path}&digest=${digest}` });
  };
  for (const chunks of [
    [randomBytes(MIB / 2), second],
    [first, randomBytes(MIB / 2)],
    [second, first],
  ]) {
    const refused = await upload(chunks);
    t.equal(refused.status, 400);
    t.match(refused.bytes.toString(), /DIGEST_INVALID/);
    for (const id of c.ids) t.equal(await stateAt(c, id, digest), 'none', `${id} keeps nothing of it`);
  }
  t.equal((await upload([first, second])).status, 201, 'the right bytes are taken after it');
});

t.test('sessions that were begun and left stop nobody, and what was sent is kept', async (t) => {
  const c = await startCluster(t, { origins: 1, config: 'max-uploads: 3' });
  const begin = async (): Promise<number> =>
    (await c.call('o1', { method: 'POST', path: `/v1/uploads?${LOCAL}` })).status;
  const begun = await c.call('o1', { method: 'POST', path: `/v1/uploads?${LOCAL}` });
  const { uploadId } = JSON.parse(begun.bytes.toString()) as { uploadId: string };
  const session = `/v1/uploads/${uploadId}?${LOCAL}`;
  t.equal((await c.call('o1', { method: 'PATCH', path: session, body: Buffer.from('abc') })).status, 202);
  t.equal(await begin(), 202);
  t.equal(await begin(), 202);
  t.equal(await begin(), 429, 'all places are taken by those who may still come');
  await until(async () => (await begin()) === 202, 'an empty session that nobody uses makes room');
  const kept = await c.get('o1', session);
  t.same(JSON.parse(kept.bytes.toString()), { offset: 3 }, 'the one with bytes is there');
});

t.test('a manifest that tells another size than the blob has is refused, wherever the blob is', async (t) => {
  const c = await startCluster(t, { origins: 5 });
  const blob = randomBytes(5_000);
  const digest = digestOf(blob);
  t.equal((await push(c, 'o1', blob)).status, 201);
  const config = Buffer.from('{}');
  t.equal((await push(c, 'o1', config)).status, 201);
  const at = async (id: string, size: number) => {
    const layers = [{ mediaType: 'a/b', digest, size }];
    const first = { mediaType: 'a/c', digest: digestOf(config), size: config.length };
    const body = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: first, layers }),
    );
    const path = `/v1/manifests?${LOCAL}&reference=v1`;
    return await c.put(id, path, body, { 'content-type': OCI_MANIFEST });
  };
  for (const id of ['o1', 'o2', 'o3', 'o4', 'o5']) {
    for (const size of [4_999, 5_001, 0]) {
      const got = await at(id, size);
      t.equal(got.status, 400, `${id} ${size}`);
      t.match(got.bytes.toString(), /MANIFEST_INVALID.*another size/);
    }
    t.ok([200, 201].includes((await at(id, 5_000)).status), id);
  }
});

t.test(
  'the uploads of one client are counted before all, and a full origin says so before a body comes',
  async (t) => {
    const c = await startCluster(t, { origins: 1, config: 'max-uploads: 3\nmax-uploads-per-client: 1' });
    const begin = async (client: string) => {
      const path = `/v1/uploads?${LOCAL}&client=${client}`;
      const begun = await c.call('o1', { method: 'POST', path });
      const { uploadId } = JSON.parse(begun.bytes.toString()) as { uploadId?: string };
      if (uploadId === undefined) return begun;
      const session = `/v1/uploads/${uploadId}?${LOCAL}`;
      return await c.call('o1', { method: 'PATCH', path: session, body: Buffer.from('abc') });
    };
    t.equal((await begin('a')).status, 202);
    const refused = await begin('a');
    t.equal(refused.status, 429);
    t.match(refused.bytes.toString(), /of one account or address/);
    const room = async (client: string): Promise<number> =>
      (await c.get('o1', `/v1/room?bytes=1&client=${client}`)).status;
    t.equal(await room('a'), 429);
    t.equal(await room('b'), 204);
    t.equal((await begin('b')).status, 202);
    t.equal((await begin('c')).status, 202);
    t.equal(await room('d'), 429);
  },
);
