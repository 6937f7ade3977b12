import { Constellation } from '@sepia/test-support/cluster/constellation';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;

t.test('the end of a cold blob is there long before the whole blob', async (t) => {
  const upstream = await FakeUpstream.start();
  t.teardown(() => upstream.stop());
  const image = makeImage({ layers: [20 * MIB], seed: 'cold-range' });
  upstream.push('team/app', image, 'v1');
  upstream.misbehave({ kind: 'blob', does: { type: 'slow', bytesPerSec: 4 * MIB } });
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 2,
    upstreams: [{ name: 'up', url: upstream.url, mode: 'pull-through' }],
  });
  const [agent] = cluster.agents;
  await (await request(`${agent!.url}/v2/team/app/manifests/v1`)).body.dump();
  const digest = image.layers[0]!;
  const content = image.blobs.get(digest)!;
  const url = `${agent!.url}/v2/team/app/blobs/${digest}`;
  const whole = request(url);
  const started = performance.now();
  const tail = await request(url, { headers: { range: 'bytes=-51' } });
  const bytes = Buffer.from(await tail.body.arrayBuffer());
  const tailMs = performance.now() - started;
  t.equal(tail.statusCode, 206);
  t.ok(bytes.equals(content.subarray(-51)));
  const all = Buffer.from(await (await whole).body.arrayBuffer());
  const wholeMs = performance.now() - started;
  t.ok(all.equals(content));
  t.ok(tailMs < wholeMs / 2, `the tail came after ${Math.round(tailMs)} of ${Math.round(wholeMs)} ms`);
});
