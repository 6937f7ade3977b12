import { ociError, watchedGet } from '@sepia/test-support/clients/watched-get';
import { MIB, PullThrough } from '@sepia/test-support/cluster/pull-through';
import t from 'tap';

t.test('a cold blob', async (t) => {
  await using here = await PullThrough.start(t.testdir());

  await t.test('headers wait for the first verified piece, then the body streams', async (t) => {
    const layer = await here.hinted(5 * MIB + 77);
    layer.misbehave({ type: 'slow', bytesPerSec: MIB });
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.ok(answer.bytes.equals(layer.content));
    t.equal(answer.headers['content-length'], String(layer.content.length));
    t.ok(
      answer.headersMs > 600,
      `headers after ${Math.round(answer.headersMs)} ms, the first piece takes 1,000`,
    );
    t.ok(
      answer.headersMs < answer.totalMs / 2,
      `headers after ${Math.round(answer.headersMs)} of ${Math.round(answer.totalMs)} ms`,
    );
    t.equal(layer.requests.length, 1);
  });

  await t.test(
    'a piece that takes longer than the patience of the agent: waited for while bytes come',
    async (t) => {
      const layer = await here.hinted(MIB);
      layer.misbehave({ type: 'slow', bytesPerSec: MIB / 7 });
      const [agent, proxy] = await Promise.all([
        layer.get(),
        watchedGet(layer.url().replace(here.cluster.agents[0]!.url, here.cluster.proxyUrls[0]!)),
      ]);
      for (const answer of [agent, proxy]) {
        t.equal(answer.status, 200);
        t.ok(answer.bytes.equals(layer.content));
      }
      t.equal(layer.requests.length, 1);
    },
  );

  await t.test('no hint: the size comes from the upstream', async (t) => {
    const layer = here.image(3 * MIB + 1);
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.ok(answer.bytes.equals(layer.content));
  });

  await t.test('size unknown to the upstream, known by the hint: streams', async (t) => {
    const layer = await here.hinted(4 * MIB + 5);
    layer.misbehave({ type: 'chunked' });
    layer.misbehave({ type: 'slow', bytesPerSec: MIB });
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.ok(answer.bytes.equals(layer.content));
    t.ok(answer.headersMs < answer.totalMs / 2, 'streamed');
  });

  await t.test('size unknown to everybody: headers wait for the whole blob', async (t) => {
    const layer = here.image(3 * MIB + 9);
    layer.misbehave({ type: 'chunked' });
    here.upstream.misbehave({ kind: 'blob', method: 'HEAD', path: layer.digest, does: { type: 'chunked' } });
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.equal(answer.headers['content-length'], String(layer.content.length));
    t.ok(answer.bytes.equals(layer.content));
  });

  await t.test('size unknown, and the upstream stops: 503', async (t) => {
    const layer = here.image(3 * MIB + 9);
    layer.misbehave({ type: 'chunked' });
    layer.misbehave({ type: 'stall', afterBytes: MIB });
    here.upstream.misbehave({ kind: 'blob', method: 'HEAD', path: layer.digest, does: { type: 'chunked' } });
    const answer = await layer.get();
    t.equal(answer.status, 503);
    t.equal(ociError(answer).code, 'UNAVAILABLE');
  });

  await t.test('cut four times, honours Range: one whole body, every byte asked about once', async (t) => {
    const layer = await here.hinted(6 * MIB);
    layer.misbehave({ type: 'cut', afterBytes: MIB + 300_000 }, { times: 4 });
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.ok(answer.bytes.equals(layer.content));
    t.equal(layer.requests[0]?.range, undefined);
    for (const { range } of layer.requests.slice(1)) t.match(range, /^bytes=\d+-/);
    t.ok(layer.upstreamBytes < 1.1 * layer.content.length, `${layer.upstreamBytes} bytes left the upstream`);
  });

  await t.test('500 in the middle: resumed', async (t) => {
    const layer = await here.hinted(4 * MIB);
    layer.misbehave({ type: 'cut', afterBytes: 2 * MIB }, { times: 1 });
    layer.misbehave({ type: 'status', status: 500 }, { skip: 1, times: 2 });
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.ok(answer.bytes.equals(layer.content));
  });

  await t.test('cut, and Range is ignored: from the beginning, yet one whole body', async (t) => {
    const layer = await here.hinted(4 * MIB);
    layer.misbehave({ type: 'ignore-range' });
    layer.misbehave({ type: 'cut', afterBytes: 2 * MIB + 5 }, { times: 1 });
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.equal(answer.cut, false);
    t.ok(answer.bytes.equals(layer.content));
  });

  await t.test('the upstream stalls in mid-body, and goes on for the next request', async (t) => {
    const layer = await here.hinted(4 * MIB);
    layer.misbehave({ type: 'stall', afterBytes: 2 * MIB }, { times: 1 });
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.equal(answer.cut, false);
    t.ok(answer.bytes.equals(layer.content));
  });

  await t.test('the upstream stalls for ever in mid-body: cut within the limit, resumed later', async (t) => {
    const layer = await here.hinted(4 * MIB);
    const behave = layer.misbehave({ type: 'stall', afterBytes: 2 * MIB });
    layer.misbehave({ type: 'ignore-range' });
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.equal(answer.cut, true);
    t.ok(answer.bytes.equals(layer.content.subarray(0, answer.bytes.length)), 'what came was right');
    t.ok(answer.gapMs < 20_000, `silent for ${Math.round(answer.gapMs)} ms`);
    behave();
    const from = answer.bytes.length;
    const rest = await layer.get({ range: `bytes=${from}-` });
    t.equal(rest.status, 206);
    t.ok(rest.bytes.equals(layer.content.subarray(from)));
  });

  await t.test('bounded and suffix ranges of an open blob are answered at once', async (t) => {
    const layer = await here.hinted(12 * MIB);
    layer.misbehave({ type: 'slow', bytesPerSec: 2 * MIB });
    const whole = layer.get();
    const bounded = await layer.get({ range: `bytes=${MIB - 10}-${MIB + 9}` });
    t.equal(bounded.status, 206);
    t.ok(bounded.bytes.equals(layer.content.subarray(MIB - 10, MIB + 10)));
    const suffix = await layer.get({ range: 'bytes=-70' });
    t.equal(suffix.status, 206);
    t.ok(suffix.bytes.equals(layer.content.subarray(-70)));
    const answer = await whole;
    t.ok(answer.bytes.equals(layer.content));
    t.ok(
      suffix.totalMs < answer.totalMs / 2,
      `suffix ${Math.round(suffix.totalMs)}, whole ${Math.round(answer.totalMs)} ms`,
    );
  });

  await t.test('a body from 0 and an open end get the last piece only after the whole digest', async (t) => {
    const layer = await here.hinted(4 * MIB);
    // The last KiB comes late: all pieces but the last are there, the digest is not.
    layer.misbehave({ type: 'stall', afterBytes: 4 * MIB - 1024 }, { times: 1 });
    const seen: number[] = [];
    const whole = watchedGet(layer.url(), {}, { onBytes: (total) => seen.push(total) });
    const open = await layer.get({ range: `bytes=${MIB}-` });
    t.ok(open.bytes.equals(layer.content.subarray(MIB)));
    const answer = await whole;
    t.ok(answer.bytes.equals(layer.content));
    t.ok(
      seen.some((total) => total <= 3 * MIB && total > 2 * MIB),
      'earlier pieces were streamed',
    );
    t.ok(answer.gapMs > 500, 'and then it waited');
  });
});
