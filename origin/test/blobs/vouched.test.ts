import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { Metainfo } from '@sepia/metainfo/metainfo';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';

const LOCAL = 'upstream=local&repository=team/app';

t.test('a holder says by 304 that link and bytes are as they were, and never asks another', async (t) => {
  const c = await startCluster(t, { origins: 5 });
  const blob = randomBytes(300_000);
  const digest = digestOf(blob);
  t.equal(
    (await c.call('o1', { method: 'PUT', path: `/v1/blobs/${digest}?${LOCAL}`, body: blob })).status,
    201,
  );
  const states = new Map<string, string>();
  for (const id of c.ids) {
    const where = await c.call(id, { method: 'GET', path: `/v1/blobs/${digest}/where?${LOCAL}` });
    states.set((JSON.parse(where.bytes.toString()) as { state: string }).state, id);
  }
  const [holder, other] = [states.get('final')!, states.get('none')!];
  const path = `/v1/blobs/${digest}/metainfo?${LOCAL}`;
  const { etag } = Metainfo.decode((await c.call(holder, { method: 'GET', path })).bytes);
  const vouch = async (id: string, known: string, by = path) =>
    await c.call(id, { method: 'GET', path: by, headers: { 'if-none-match': known, 'sepia-hop': '1' } });
  t.equal((await vouch(holder, etag)).status, 304);
  const told = await vouch(holder, `"${'0'.repeat(32)}.1.final.${'0'.repeat(32)}"`);
  t.equal(told.status, 200, 'other hashes');
  t.equal(Metainfo.decode(told.bytes).etag, etag);
  t.equal((await vouch(holder, etag, path.replace('team/app', 'other/app'))).status, 404, 'no link');
  const elsewhere = await vouch(other, etag);
  t.equal(elsewhere.status, 503, 'it is known elsewhere alone');
  t.equal(elsewhere.headers['sepia-error'], 'QUORUM_LOST');
  t.equal((await c.call(other, { method: 'GET', path })).status, 200, 'who may ask others has it from them');
  const deleted = await c.call('o2', { method: 'DELETE', path: `/v1/blobs/${digest}?${LOCAL}` });
  t.equal(deleted.status, 204);
  t.equal((await vouch(holder, etag)).status, 404, 'the link is deleted');
});

t.test('what a holder vouches for is not collected at that moment', async (t) => {
  const c = await startCluster(t, { origins: 1 });
  const post = async (path: string, body: object) =>
    await c.call('o1', {
      method: 'POST',
      path,
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    });
  const stateAfterSweep = async (isAsked: boolean): Promise<string> => {
    const blob = randomBytes(300_000);
    const digest = digestOf(blob);
    await c.call('o1', { method: 'PUT', path: `/v1/blobs/${digest}?${LOCAL}`, body: blob });
    const path = `/v1/blobs/${digest}/metainfo?${LOCAL}`;
    const { etag } = Metainfo.decode((await c.call('o1', { method: 'GET', path })).bytes);
    t.equal((await post('/v1/gc/condemn', { generation: 'sweep', keys: [digest] })).status, 200);
    const headers = { 'if-none-match': etag, 'sepia-hop': '1' };
    if (isAsked) t.equal((await c.call('o1', { method: 'GET', path, headers })).status, 304);
    const swept = await post('/v1/gc/remove', { generation: 'sweep', digests: [digest] });
    t.equal(swept.status, 200, swept.bytes.toString());
    await post('/v1/gc/release', { generation: 'sweep' });
    const where = await c.call('o1', { method: 'GET', path: `/v1/blobs/${digest}/where?${LOCAL}` });
    return (JSON.parse(where.bytes.toString()) as { state: string }).state;
  };
  t.equal(await stateAfterSweep(false), 'none');
  t.equal(await stateAfterSweep(true), 'final');
});
