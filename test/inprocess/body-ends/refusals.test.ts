import { ociError, watchedGet } from '@sepia/test-support/clients/watched-get';
import { MIB, PullThrough } from '@sepia/test-support/cluster/pull-through';
import t from 'tap';

const DEAD_ENDS = [
  ['says 500', { type: 'status', status: 500 }],
  ['says 503', { type: 'status', status: 503 }],
  ['cuts before any answer', { type: 'reset' }],
  ['never answers', { type: 'silent' }],
  ['sends headers and no byte', { type: 'stall', afterBytes: 0 }],
] as const;

t.test('nothing can serve', async (t) => {
  await using here = await PullThrough.start(t.testdir());

  await t.test('the upstream says that it has no such blob: 404 with an OCI body', async (t) => {
    const layer = await here.hinted(MIB);
    const answer = await watchedGet(layer.url().replace(layer.digest, `sha256:${'0'.repeat(64)}`));
    t.equal(answer.status, 404);
    t.equal(ociError(answer).code, 'BLOB_UNKNOWN');
  });

  await t.test('the upstream says 401: 401 that leads to our own tokens', async (t) => {
    const layer = await here.hinted(3 * MIB);
    layer.misbehave({ type: 'status', status: 401 });
    const answer = await layer.get();
    t.equal(answer.status, 401);
    t.equal(ociError(answer).code, 'UNAUTHORIZED');
    const { host } = new URL(layer.url());
    t.match(answer.headers['www-authenticate'], `Bearer realm="http://${host}/token?ns=up"`);
  });

  await t.test('the upstream says 403: 403 in its own words', async (t) => {
    const layer = await here.hinted(3 * MIB);
    layer.misbehave({ type: 'status', status: 403 });
    const answer = await layer.get();
    t.equal(answer.status, 403);
    t.equal(ociError(answer).code, 'DENIED');
    t.match(ociError(answer).message, /refuses access/);
  });

  const noHttp = /leads to \w+:, which is not http; not followed/;
  for (const [to, said] of [
    ['file:///etc/passwd', noHttp],
    ['gopher://127.0.0.1:70/1', noHttp],
    ['data:text/plain,x', noHttp],
    ['http://240.0.0.1/x', /redirect 240\.0\.0\.1 .* address; not asked .*redirect-hosts/],
  ] as const)
    await t.test(
      `the upstream redirects to ${to.split('/')[0]}${new URL(to).hostname}: 503 that says so, and it is not asked on`,
      async (t) => {
        const layer = await here.hinted(3 * MIB);
        layer.misbehave({ type: 'redirect', to });
        const asked = (): number =>
          here.upstream.requests('blob').filter(({ path }) => path.includes(layer.digest)).length;
        const before = asked();
        const answer = await layer.get();
        t.equal(answer.status, 503);
        t.equal(ociError(answer).code, 'UNAVAILABLE');
        t.match(ociError(answer).message, said);
        // Whether it has the blob, and for the blob.
        t.ok(asked() - before <= 2, `asked ${asked() - before} times`);
      },
    );

  await t.test('429 with a Retry-After within the deadline: waited for, then right bytes', async (t) => {
    const layer = await here.hinted(3 * MIB);
    layer.misbehave({ type: 'status', status: 429, headers: { 'retry-after': '1' } }, { times: 1 });
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.ok(answer.bytes.equals(layer.content));
    t.ok(answer.headersMs >= 990, `headers after ${Math.round(answer.headersMs)} ms`);
  });

  for (const [what, does] of DEAD_ENDS) {
    await t.test(`the upstream ${what}: 503 with an OCI body, nothing cut`, async (t) => {
      const layer = await here.hinted(3 * MIB);
      const behave = layer.misbehave(does);
      const answer = await layer.get();
      t.equal(answer.status, 503);
      t.equal(answer.cut, false);
      t.equal(ociError(answer).code, 'UNAVAILABLE');
      t.ok(answer.totalMs < 40_000, `answered after ${Math.round(answer.totalMs)} ms`);
      behave();
      const again = await layer.get();
      t.equal(again.status, 200, 'the next pull succeeds');
      t.ok(again.bytes.equals(layer.content));
    });
  }

  await t.test('the upstream is down and the blob was never seen: 503', async (t) => {
    const layer = await here.hinted(2 * MIB);
    await here.upstream.down();
    const answer = await layer.get();
    await here.upstream.up();
    t.equal(answer.status, 503);
    t.equal(ociError(answer).code, 'UNAVAILABLE');
  });

  await t.test(
    '429 with a Retry-After beyond the deadline: 503 at once, never 429; heeded for all of that upstream',
    async (t) => {
      const layer = await here.hinted(3 * MIB);
      layer.misbehave({ type: 'status', status: 429, headers: { 'retry-after': '600' } });
      const answer = await layer.get();
      t.equal(answer.status, 503);
      t.equal(answer.cut, false);
      t.match(ociError(answer).message, /rate/);
    },
  );
});
