import { ociError, watchedGet } from '@sepia/test-support/clients/watched-get';
import { MIB, PullThrough } from '@sepia/test-support/cluster/pull-through';
import t from 'tap';

/** A fifteenth of the defaults: an upstream may think 4 s, while anything else is given up after 0.7 s. */
const SCALED = {
  origin: {
    deadlines: { 'fetch-progress': '700ms', 'first-byte': '4s', 'body-stall': '4s', drain: '1s' },
  },
  agent: {
    deadlines: { 'download-progress': '1s', 'body-stall': '4s' },
    'back-to-source': { mode: 'never' },
  },
};
/** 40 s of 60. */
const THINKS_MS = 2_700;

const ASKED = [
  { what: 'a manifest', path: 'manifests/v1', headers: {}, status: 200 },
  { what: 'a blob', path: 'blobs', headers: {}, status: 200 },
  { what: 'a bounded range', path: 'blobs', headers: { range: 'bytes=5-1000' }, status: 206 },
  {
    what: 'a range across the border of two pieces',
    path: 'blobs',
    headers: { range: `bytes=${MIB - 100}-${MIB + 99}` },
    status: 206,
  },
] as const;

t.test('an upstream that thinks before its first byte', async (t) => {
  await using here = await PullThrough.start(t.testdir(), SCALED);
  const doors = { agent: here.cluster.agents[0]!.url, proxy: here.cluster.proxyUrls[0]! };
  const ask = async () =>
    await Promise.all(
      Object.entries(doors).flatMap(([door, url]) =>
        ASKED.map(async (asked) => {
          const layer = here.image(MIB + 5_000);
          const path = asked.path === 'blobs' ? `blobs/${layer.digest}` : asked.path;
          const answer = await watchedGet(`${url}/v2/${layer.repository}/${path}`, asked.headers);
          return { door, asked, layer, answer };
        }),
      ),
    );

  await t.test('within `first-byte`: the headers are held, then the answer is right', async (t) => {
    const undo = here.upstream.misbehave({ does: { type: 'delay', ms: THINKS_MS } });
    const answers = await ask();
    undo();
    for (const { door, asked, answer } of answers) {
      t.equal(answer.status, asked.status, `${door}, ${asked.what}`);
      t.equal(answer.cut, false);
      t.ok(answer.headersMs >= THINKS_MS - 50, `headers after ${Math.round(answer.headersMs)} ms`);
    }
  });

  await t.test('for ever: 503 with Retry-After once it has had its time', async (t) => {
    const undo = here.upstream.misbehave({ does: { type: 'silent' } });
    const answers = await ask();
    undo();
    for (const { door, asked, answer } of answers) {
      t.equal(answer.status, 503, `${door}, ${asked.what}`);
      t.equal(ociError(answer).code, 'UNAVAILABLE');
      t.match(answer.headers['retry-after'], /^\d+$/);
      t.ok(answer.headersMs >= 3_900, `headers after ${Math.round(answer.headersMs)} ms`);
    }
  });
});
