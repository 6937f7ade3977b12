import { readFileSync } from 'node:fs';
import { signBinding } from '@sepia/cluster/api/layer-binding';
import { Cluster } from '@sepia/cluster/cluster';
import { loadClusterDocument } from '@sepia/cluster/load-document';
import { conversionCluster } from '@sepia/test-support/cluster/conversion-cluster';
import t from 'tap';
import { indexInCluster, layersInCluster, layerText } from '../../src/lazy/cluster-layers.ts';
import { Operator } from '../../src/operator/operator.ts';

t.test('an image is indexed by the cluster, and each layer says how it stands', async (t) => {
  const here = await conversionCluster(t);
  const clusterKey = Buffer.from(readFileSync(here.cluster.keyFile, 'utf8').trim(), 'hex');
  await using operator = new Operator(
    new Cluster(loadClusterDocument(here.cluster.documentFile)),
    clusterKey,
  );
  await here.push('other/app', '1', 'hello');
  const name = operator.nameOf('other/app:1');
  const before = await layersInCluster(operator, name);
  t.same(before.map(layerText), [`${before[0]?.layer}  not indexed yet`]);
  await here.start('accelerator-1');
  const notes: string[] = [];
  const job = await indexInCluster(operator, name, (text) => void notes.push(text));
  t.match(job.result, { outcome: 'indexed', layers: 1 }, 'by hand no rule is needed');
  t.match(notes[0], /^job .* is on record$/);
  const [after] = await layersInCluster(operator, name);
  t.match(layerText(after!), /^sha256:[0-9a-f]{64} {2}lazy: index sha256:[0-9a-f]{64}, .* by accelerator-1$/);
  const again = await indexInCluster(operator, name, () => undefined);
  t.match(again.result, { outcome: 'unchanged' });
});

t.test('why a layer is not lazy is said', async (t) => {
  const layer = `sha256:${'1'.repeat(64)}` as never;
  const facts = {
    version: 1 as const,
    ...{ layer, by: 'a', atMs: 1, home: { upstream: 'local', repository: 'team/app' } },
  };
  const none = signBinding(Buffer.alloc(32), { ...facts, reason: 'sparse' });
  t.equal(layerText({ layer, binding: none }), `${layer}  not lazy: sparse`);
  const lazy = signBinding(Buffer.alloc(32), { ...facts, diffId: layer, index: layer, indexBytes: 5 });
  const part = { ...facts, kind: 'nydus-blob', diffId: layer, index: layer, indexBytes: 5 } as const;
  t.match(
    layerText({ layer, binding: signBinding(Buffer.alloc(32), part) }),
    / {2}lazy: index .* by a, data blob of Nydus images$/,
  );
  const bad = { index: layer, reason: 'span 1', by: 'agent-1', atMs: 2 };
  t.match(layerText({ layer, binding: { ...lazy, bad } }), /its index is bad \(span 1; said agent-1\)/);
});
