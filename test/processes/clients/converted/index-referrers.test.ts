import { IndexingClusters, pushTextImage } from '@sepia/test-support/cluster/indexing-cluster';
import { freePort, startRegistry, whyNoClients } from '@sepia/test-support/testbed';
import t from 'tap';

const skip = whyNoClients() ?? false;

t.test('docker-registry keeps indexes from one cluster to another', { skip, timeout: 240_000 }, async (t) => {
  const clusters = new IndexingClusters(t);
  const port = await freePort();
  await startRegistry(t, port);
  const registry = `http://127.0.0.1:${port}`;
  const { image, layer } = await pushTextImage(registry, 'team/app', '1');
  const first = await clusters.start('first', registry, { 'push-index': true });
  t.match(await first.index('team/app', '1'), { state: 'done', result: { outcome: 'indexed' } });
  t.match(await first.referrers('team/app', image), [
    { artifactType: 'application/vnd.sepia.layer-indexes.v1' },
  ]);
  const second = await clusters.start('second', registry);
  t.match(await second.index('team/app', '1'), { state: 'done', result: { layersTaken: 1 } });
  const [own, taken] = [await first.binding('team/app', layer), await second.binding('team/app', layer)];
  t.match(own, { index: /^sha256:/ });
  t.equal(taken?.index, own?.index);
});
