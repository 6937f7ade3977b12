import { ociError, type Watched, watchedGet } from '@sepia/test-support/clients/watched-get';
import { type ColdLayer, MIB, PullThrough } from '@sepia/test-support/cluster/pull-through';
import t from 'tap';

const REFUSED = /begin its download again/;

t.test('the upstream sends wrong bytes', async (t) => {
  await using here = await PullThrough.start(t.testdir());

  await t.test(
    'once: last piece withheld, cut, then refetched and verified before it is served',
    async (t) => {
      const layer = await here.hinted(4 * MIB);
      layer.misbehave({ type: 'slow', bytesPerSec: 6 * MIB });
      layer.misbehave({ type: 'lie', at: MIB + 5 }, { times: 1 });
      const first = await layer.get();
      t.equal(first.status, 200);
      t.equal(first.cut, true);
      t.ok(first.bytes.length <= 3 * MIB, `${first.bytes.length} bytes, the last piece among them`);
      t.ok(first.bytes.length > MIB, 'it was streamed until then');

      const rest = await layer.get({ range: `bytes=${first.bytes.length}-` });
      t.equal(rest.status, 503, 'resuming on a wrong prefix is refused');
      t.match(ociError(rest).message, REFUSED);

      const again = await layer.get();
      t.equal(again.status, 200);
      t.ok(again.bytes.equals(layer.content));
      const late = await layer.get({ range: 'bytes=10-' });
      t.equal(late.status, 503, 'still refused when the right bytes are in the cache');
      const bounded = await layer.get({ range: 'bytes=10-19' });
      t.equal(bounded.status, 206);
      t.ok(bounded.bytes.equals(layer.content.subarray(10, 20)));
      t.ok(here.log.has(/resum/i), 'a log line says why');
    },
  );

  await t.test('a small blob, once: right bytes or no byte', async (t) => {
    const layer = await here.hinted(60_000);
    layer.misbehave({ type: 'lie' }, { times: 1 });
    const answer = await layer.get();
    t.ok(
      answer.status === 200 ? answer.bytes.equals(layer.content) : answer.status >= 500,
      `${answer.status}`,
    );
  });

  await t.test('always: one refetch, then 502, and never the last piece', async (t) => {
    const layer = await here.hinted(3 * MIB);
    layer.misbehave({ type: 'slow', bytesPerSec: 6 * MIB });
    layer.misbehave({ type: 'lie', at: 2 * MIB + 5 });
    const first = await layer.get();
    if (first.status === 200) {
      t.equal(first.cut, true);
      t.ok(first.bytes.length <= 2 * MIB);
    } else t.equal(first.status, 502);
    const second = await layer.get();
    t.equal(second.status, 502);
    t.equal(ociError(second).code, 'UNAVAILABLE');
    t.match(ociError(second).message, /match its digest/);
    const third = await layer.get();
    t.equal(third.status, 502);
    t.ok(layer.requests.length <= 6, `${layer.requests.length} requests at the upstream`);
    const rest = await layer.get({ range: 'bytes=1048576-' });
    t.equal(rest.status, 503);
    t.match(ociError(rest).message, REFUSED);
  });

  await t.test('shorter than the upstream states: never whole, cut before what is missing', async (t) => {
    const layer = await here.hinted(2 * MIB);
    layer.misbehave({ type: 'wrong-length', by: 1 });
    const answer = await layer.get();
    if (answer.status === 200) {
      t.equal(answer.cut, true);
      t.ok(answer.bytes.length <= 2 * MIB, `${answer.bytes.length}`);
      t.ok(answer.bytes.equals(layer.content.subarray(0, answer.bytes.length)));
    } else t.equal(ociError(answer).code, 'UNAVAILABLE');
  });
});

t.test('the same at proxies, whichever is asked', async (t) => {
  await using here = await PullThrough.start(t.testdir(), { proxies: 2 });
  const [one, other] = here.cluster.proxyUrls as [string, string];
  const at = async (url: string, layer: ColdLayer, range?: string): Promise<Watched> =>
    await watchedGet(
      `${url}/v2/${layer.repository}/blobs/${layer.digest}`,
      range === undefined ? {} : { range },
    );

  await t.test('once: cut, resuming is refused, whole bodies are verified first', async (t) => {
    const layer = await here.hinted(4 * MIB);
    layer.misbehave({ type: 'slow', bytesPerSec: 6 * MIB });
    layer.misbehave({ type: 'lie', at: MIB + 5 }, { times: 1 });
    const first = await at(one, layer);
    t.equal(first.status, 200);
    t.equal(first.cut, true);
    t.ok(first.bytes.length > MIB && first.bytes.length <= 3 * MIB, `${first.bytes.length} bytes`);
    for (const url of [one, other]) {
      const rest = await at(url, layer, `bytes=${first.bytes.length}-`);
      t.equal(rest.status, 503, 'resuming on a wrong prefix is refused');
      t.match(ociError(rest).message, REFUSED);
    }
    for (const url of [other, one]) {
      const again = await at(url, layer);
      t.equal(again.status, 200);
      t.ok(again.bytes.equals(layer.content));
      t.equal(
        (await at(url, layer, 'bytes=10-')).status,
        503,
        'still refused when the right bytes are there',
      );
      const bounded = await at(url, layer, 'bytes=10-19');
      t.equal(bounded.status, 206);
      t.ok(bounded.bytes.equals(layer.content.subarray(10, 20)));
    }
  });

  await t.test('always: 502, never the last piece, and no resuming', async (t) => {
    const layer = await here.hinted(3 * MIB);
    layer.misbehave({ type: 'slow', bytesPerSec: 6 * MIB });
    layer.misbehave({ type: 'lie', at: 2 * MIB + 5 });
    const first = await at(one, layer);
    if (first.status === 200) t.ok(first.cut && first.bytes.length <= 2 * MIB, `${first.bytes.length} bytes`);
    else t.equal(first.status, 502);
    const second = await at(other, layer);
    t.equal(second.status, 502);
    t.match(ociError(second).message, /match its digest/);
    t.equal((await at(one, layer, `bytes=${MIB}-`)).status, 503);
  });
});
