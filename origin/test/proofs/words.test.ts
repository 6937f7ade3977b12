import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import type { Blobs } from '../../src/blobs/blobs.ts';
import { MOST_WORDS_MS, WORDS_MS } from '../../src/deadlines/members.ts';
import { wordsOf } from '../../src/proofs/words.ts';
import { startCluster } from '../support/cluster.ts';

const LOCAL = 'upstream=local&repository=team/app';
const HOUR_MS = 3_600_000;

t.test('an origin tells of several links what it tells of each alone, and nothing of a no', async (t) => {
  const c = await startCluster(t, { origins: 5 });
  const blob = randomBytes(300_000);
  const digest = digestOf(blob);
  await c.call('o1', { method: 'PUT', path: `/v1/blobs/${digest}?${LOCAL}`, body: blob });
  const where = async (id: string) =>
    JSON.parse((await c.get(id, `/v1/blobs/${digest}/where?${LOCAL}`)).bytes.toString());
  const states = new Map<string, string>();
  for (const id of c.ids) states.set((await where(id)).state, id);
  const [holder, other] = [states.get('final')!, states.get('none')!];
  const { etag } = Metainfo.decode((await c.get(holder, `/v1/blobs/${digest}/metainfo?${LOCAL}`)).bytes);
  const link = { upstream: 'local', repository: 'team/app', digest };
  const ask = async (id: string, asked: readonly object[]) =>
    await c.call(id, {
      method: 'POST',
      path: '/v1/words',
      body: JSON.stringify({ asked }),
      headers: { 'content-type': 'application/json' },
    });
  const told = async (id: string, asked: readonly object[]) =>
    JSON.parse((await ask(id, asked)).bytes.toString()).told;
  const asked = [
    link,
    { ...link, etag },
    { ...link, etag: etag.replace('final', 'open') },
    { ...link, repository: 'other/app', etag },
    { ...link, repository: 'Not A Name' },
    { ...link, upstream: 'nobody', etag },
    { ...link, digest: digestOf(Buffer.from('nothing')) },
  ];
  t.same(await told(holder, asked), [
    await where(holder),
    'same',
    null,
    null,
    null,
    null,
    { state: 'none', linked: false },
  ]);
  t.same(await told(other, [{ ...link, etag }, link]), [null, await where(other)], 'it has it no more');
  t.equal((await ask(holder, [{ digest }])).status, 400);
  t.equal(
    (
      await ask(
        holder,
        Array.from({ length: 129 }, () => link),
      )
    ).status,
    400,
  );
  await c.call('o2', { method: 'DELETE', path: `/v1/blobs/${digest}?${LOCAL}` });
  t.same(await told(holder, [{ ...link, etag }]), [null], 'the link is deleted');
});

t.test('what is asked for together is not collected at that moment', async (t) => {
  const c = await startCluster(t, { origins: 1 });
  const post = async (path: string, body: object) =>
    await c.call('o1', {
      method: 'POST',
      path,
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    });
  const blob = randomBytes(300_000);
  const digest = digestOf(blob);
  await c.call('o1', { method: 'PUT', path: `/v1/blobs/${digest}?${LOCAL}`, body: blob });
  await post('/v1/gc/condemn', { generation: 'sweep', keys: [digest] });
  const link = { upstream: 'local', repository: 'team/app', digest };
  t.equal((await post('/v1/words', { asked: [link] })).status, 200);
  await post('/v1/gc/remove', { generation: 'sweep', digests: [digest] });
  await post('/v1/gc/release', { generation: 'sweep' });
  const where = await c.get('o1', `/v1/blobs/${digest}/where?${LOCAL}`);
  t.equal(JSON.parse(where.bytes.toString()).state, 'final');
});

t.test(
  'one link that takes long holds up no other, all that do are told so soon, and a bug is thrown',
  async (t) => {
    const time = new VirtualTime().install();
    t.teardown(() => time.uninstall());
    const digest = digestOf(Buffer.from('x'));
    const asked = ['a', 'b', 'c'].map((repository) => ({ upstream: 'local', repository, digest }));
    const where: Blobs['where'] = async ({ repository }) => {
      await new Promise((resolve) => setTimeout(resolve, repository === 'b' ? HOUR_MS : 5));
      return { state: 'none', linked: false };
    };
    const never = { where, metainfo: () => Promise.reject(new CodedError('BLOB_UNKNOWN')) };
    const signal = new AbortController().signal;
    const none = { state: 'none', linked: false };
    t.same(await time.settle(wordsOf(never, asked, signal)), [none, null, none]);
    t.equal(time.elapsedMs, 5 + WORDS_MS);
    const fromMs = time.elapsedMs;
    const slow = { ...never, where: async () => await new Promise<never>(() => {}) };
    t.same(await time.settle(wordsOf(slow, asked, signal)), [null, null, null], 'all take long');
    t.equal(time.elapsedMs - fromMs, MOST_WORDS_MS);
    const wrong = { ...never, where: (_name: BlobName) => Promise.reject(new TypeError('wrong code')) };
    await t.rejects(time.settle(wordsOf(wrong, asked, signal)), TypeError);
  },
);
