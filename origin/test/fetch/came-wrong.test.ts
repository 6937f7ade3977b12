import type { ServerResponse } from 'node:http';
import { digestOf } from '@sepia/base/digest';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { TestUpstream } from '../support/upstream.ts';

/** The next blob that `liar` is asked for is held, then answered with `bytes` of which one is another. */
function lieOnce(
  liar: TestUpstream,
  bytes: Buffer,
): { readonly isAsked: () => boolean; readonly tell: () => void } {
  const wrong = Buffer.from(bytes);
  wrong[5] = wrong[5]! ^ 1;
  let held: ServerResponse | undefined;
  liar.fault = (req, res) => {
    if (req.method !== 'GET' || req.url?.includes('/blobs/') !== true || held !== undefined) return false;
    held = res;
    return true;
  };
  return {
    isAsked: () => held !== undefined,
    tell: () => held?.writeHead(200, { 'content-length': wrong.length }).end(wrong),
  };
}

t.test('wrong content counts under the names that it was shown by, and under no other', async (t) => {
  const [liar, other, honest] = [
    await TestUpstream.start(t),
    await TestUpstream.start(t),
    await TestUpstream.start(t),
  ];
  const hubs = Object.entries({ liar, other, honest }).map(([name, { url }]) => ({
    ...{ name, url, mode: 'pull-through' },
  }));
  const c = await startCluster(t, { origins: 1, upstreams: hubs });
  const bytes = Buffer.from(bytesOf(3 << 20, 1));
  const digest = liar.addBlob(bytes);
  for (const one of [other, honest]) one.addBlob(bytes);
  const lie = lieOnce(liar, bytes);
  const pathOf = (upstream: string, rest = ''): string =>
    `/v1/blobs/${digest}${rest}?upstream=${upstream}&repository=team/app`;
  const cameWrong = async (upstream: string): Promise<unknown> =>
    (JSON.parse((await c.get('o1', pathOf(upstream, '/where'))).bytes.toString()) as { cameWrong?: true })
      .cameWrong;
  const first = Promise.allSettled([c.get('o1', pathOf('liar'))]);
  await until(() => lie.isAsked(), 'it is fetched');
  const second = Promise.allSettled([c.get('o1', pathOf('other'))]);
  await until(() => other.requests.some((line) => line.startsWith('HEAD')), 'another name is proven');
  // It joins what is under way.
  await c.get('o1', pathOf('other', '/where'));
  for (const one of ['liar', 'other', 'honest']) t.equal(await cameWrong(one), undefined);
  lie.tell();
  await Promise.all([first, second]);
  await until(async () => (await cameWrong('liar')) === true, 'it came wrong');
  t.equal(await cameWrong('other'), true, 'its readers had bytes of that fetch');
  t.equal(await cameWrong('honest'), undefined);
  const right = await c.get('o1', pathOf('honest'));
  t.equal(right.status, 200);
  t.ok(right.bytes.equals(bytes));
  t.equal(await cameWrong('honest'), undefined);
});

t.test(
  'of an attempt that is adopted nobody knows by which names it was shown: it counts for all',
  async (t) => {
    const liar = await TestUpstream.start(t);
    const hubs = ['liar', 'honest'].map((name) => ({ name, url: liar.url, mode: 'pull-through' }));
    const c = await startCluster(t, { origins: 1, upstreams: hubs });
    const bytes = Buffer.from(bytesOf(3 << 20, 2));
    const digest = digestOf(bytes);
    liar.addBlob(bytes);
    const lie = lieOnce(liar, bytes);
    const name = (upstream: string): string => `upstream=${upstream}&repository=team/app`;
    const known = Metainfo.open(digest, bytes.length, firstAttempt(digest));
    const adopted = await c.call('o1', {
      method: 'POST',
      path: `/v1/blobs/${digest}/adopt?${name('liar')}`,
      body: JSON.stringify({ metainfo: Buffer.from(known.encode()).toString('base64'), peers: [] }),
      headers: { 'content-type': 'application/json' },
    });
    t.equal(adopted.status, 200);
    await until(() => lie.isAsked(), 'the rest is fetched');
    lie.tell();
    const told = `/v1/blobs/${digest}/where?${name('honest')}`;
    const cameWrong = async (): Promise<boolean> =>
      (await c.get('o1', told)).bytes.includes('"cameWrong":true');
    await until(cameWrong, 'it came wrong, for a name that this origin never showed it by');
  },
);
