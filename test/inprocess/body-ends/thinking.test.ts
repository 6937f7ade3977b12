import { PullThrough } from '@sepia/test-support/cluster/pull-through';
import t from 'tap';
import { request } from 'undici';

/** Longer than any other deadline on the way: a chained registry that fetches the layer first. */
const THINKS_MS = 12_000;
const PATIENT = { origin: { deadlines: { 'fetch-progress': '2s', drain: '1s' } } };

t.test('an upstream that thinks long before its first byte is waited for, at the first try', async (t) => {
  await using here = await PullThrough.start(t.testdir(), PATIENT);
  const slow = (kind: 'manifest' | 'blob', method: 'GET' | 'HEAD') =>
    here.upstream.misbehave({ kind, method, does: { type: 'delay', ms: THINKS_MS } });
  const urls = [here.cluster.agents[0]!.url, here.cluster.proxyUrls[0]!];
  const images = urls.map(() => here.image(3_000_000));
  const undo = slow('manifest', 'GET');
  const manifests = await Promise.all(
    urls.map(async (url, at) => {
      const answer = await request(`${url}/v2/${images[at]!.repository}/manifests/v1`);
      await answer.body.dump();
      return answer.statusCode;
    }),
  );
  t.same(manifests, [200, 200], 'manifests');
  undo();
  slow('blob', 'GET');
  const blobs = await Promise.all(
    urls.map(async (url, at) => {
      const { repository, digest } = images[at]!;
      const answer = await request(`${url}/v2/${repository}/blobs/${digest}`);
      return [answer.statusCode, (await answer.body.arrayBuffer()).byteLength];
    }),
  );
  t.same(blobs, [
    [200, 3_000_000],
    [200, 3_000_000],
  ]);
  t.same(
    images.map(({ requests }) => requests.length),
    [1, 1],
    'asked once for each',
  );
});
