import { MIB, PATIENT, PullThrough } from '@sepia/test-support/cluster/pull-through';
import t from 'tap';

const SOME = 'bytes=5242880-5308415';

t.test('a footer of a cold blob moves one piece, and the blob stays unfetched', async (t) => {
  await using here = await PullThrough.start(t.testdir(), { agents: 2, ...PATIENT });
  const layer = await here.hinted(24 * MIB + 7);
  const tail = await layer.get({ range: 'bytes=-51' });
  t.equal(tail.status, 206);
  t.ok(tail.bytes.equals(layer.content.subarray(-51)));
  t.ok(layer.upstreamBytes <= 2 * MIB, `${layer.upstreamBytes} bytes left the upstream`);
  const some = await layer.get({ range: SOME });
  t.ok(some.bytes.equals(layer.content.subarray(5_242_880, 5_308_416)));
  t.ok(layer.upstreamBytes <= 3 * MIB, `${layer.upstreamBytes} bytes after another range`);
  const again = await layer.get({ range: 'bytes=5242890-5242899' });
  t.ok(again.bytes.equals(layer.content.subarray(5_242_890, 5_242_900)));
  await layer.hint(1);
  const other = await layer.get({ range: SOME }, 1);
  t.ok(other.bytes.equals(some.bytes));
  t.ok(layer.upstreamBytes <= 3 * MIB, 'what is in the cluster is not fetched again');
});

t.test('without a size hint as well', async (t) => {
  await using here = await PullThrough.start(t.testdir(), PATIENT);
  const layer = here.image(24 * MIB);
  const some = await layer.get({ range: SOME });
  t.ok(some.bytes.equals(layer.content.subarray(5_242_880, 5_308_416)));
  t.ok(layer.upstreamBytes <= MIB, `${layer.upstreamBytes} bytes`);
});

t.test('several ranges move their pieces; too many are refused and move nothing', async (t) => {
  await using here = await PullThrough.start(t.testdir(), PATIENT);
  const layer = await here.hinted(24 * MIB);
  const many = Array.from({ length: 65 }, (_, at) => `${at * 9}-${at * 9 + 3}`).join(',');
  const refused = await layer.get({ range: `bytes=${many}` });
  t.equal(refused.status, 400);
  t.equal(layer.upstreamBytes, 0);
  const parts = await layer.get({ range: `bytes=0-9,${7 * MIB}-${7 * MIB + 9},-5` });
  t.equal(parts.status, 206);
  t.match(parts.headers['content-type'], /^multipart\/byteranges/);
  t.ok(parts.bytes.includes(layer.content.subarray(7 * MIB, 7 * MIB + 10)));
  t.ok(layer.upstreamBytes <= 3 * MIB, `${layer.upstreamBytes} bytes for three pieces`);
});

t.test('a whole pull after ranges completes, and moves each byte once', async (t) => {
  await using here = await PullThrough.start(t.testdir(), PATIENT);
  const layer = await here.hinted(12 * MIB + 9);
  const some = await layer.get({ range: SOME });
  t.equal(some.status, 206);
  const whole = await layer.get();
  t.equal(whole.status, 200);
  t.ok(whole.bytes.equals(layer.content), `${whole.bytes.length} bytes, cut: ${whole.cut}`);
  t.ok(layer.upstreamBytes <= layer.content.length + MIB, `${layer.upstreamBytes} bytes`);
});

t.test('ranges of eight agents: each touched piece leaves the upstream once', async (t) => {
  await using here = await PullThrough.start(t.testdir(), { agents: 8, trackers: 2, proxies: 2, ...PATIENT });
  const layer = here.image(40 * MIB);
  await Promise.all(here.cluster.agents.map((_, at) => layer.hint(at)));
  const touched = new Set<number>();
  const reads = here.cluster.agents.map(async (_, agent) => {
    for (let at = 0; at < 5; at++) {
      const start = ((agent * 7 + at * 13) % 39) * MIB + agent * 65_536;
      touched.add(Math.floor(start / MIB));
      const answer = await layer.get({ range: `bytes=${start}-${start + 65_535}` }, agent);
      if (!answer.bytes.equals(layer.content.subarray(start, start + 65_536)))
        return `agent ${agent} at ${start}`;
    }
    return undefined;
  });
  t.same(
    (await Promise.all(reads)).filter((wrong) => wrong !== undefined),
    [],
  );
  t.ok(
    layer.upstreamBytes <= 1.2 * touched.size * MIB,
    `${(layer.upstreamBytes / MIB).toFixed(1)} MiB for ${touched.size} touched pieces`,
  );
});
