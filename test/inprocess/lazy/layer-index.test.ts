import { readFileSync } from 'node:fs';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { digestOf } from '@sepia/base/digest';
import { type LayerBinding, signBinding } from '@sepia/cluster/api/layer-binding';
import { InternalClient } from '@sepia/http/client';
import { createDispatcher } from '@sepia/http/sockets';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { pushBlob } from '@sepia/test-support/clients/registry-calls';
import {
  areDone,
  type ConversionCluster,
  conversionCluster,
} from '@sepia/test-support/cluster/conversion-cluster';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { request } from 'undici';

const RULES = [{ name: 'index', from: 'local', repositories: ['team/**'], to: 'index', 'min-size': 1 }];

/** Signed calls to the proxy, as an agent makes them. */
function memberOf(t: Test, here: ConversionCluster): InternalClient {
  const dispatcher = createDispatcher();
  t.teardown(() => dispatcher.destroy());
  return new InternalClient({
    dispatcher,
    clusterKey: keyOf(here),
    memberId: 'test',
    clock: new MemberClock(),
  });
}

function keyOf(here: ConversionCluster): Buffer {
  return Buffer.from(readFileSync(here.cluster.keyFile, 'utf8').trim(), 'hex');
}

const at = (here: ConversionCluster) =>
  ({ url: here.proxy, to: 'proxy-1', headersTimeoutMs: 10_000 }) as const;

async function recordOf(here: ConversionCluster, repository: string, layer: string) {
  const path = `/v1/layers/${layer}?upstream=local&repository=${encodeURIComponent(repository)}`;
  return (await here.cluster.ask<{ binding?: LayerBinding }>(here.proxy, path)).binding;
}

async function indexed(t: Test): Promise<{ here: ConversionCluster; layer: string; binding: LayerBinding }> {
  const here = await conversionCluster(t, RULES);
  await here.start('accelerator-1');
  await here.push('team/app', '1', 'hello');
  t.equal(await here.webhook('PUSH_ARTIFACT', 'team/app', '1'), 202);
  await until(async () => areDone(await here.jobs()), 'the job is done', 60_000);
  const layer = (await here.manifest('team/app', '1'))!.layers[0]!.digest;
  return { here, layer, binding: (await recordOf(here, 'team/app', layer))! };
}

t.test('a push is indexed: record on the origins, index as a blob', { timeout: 120_000 }, async (t) => {
  const { here, layer, binding } = await indexed(t);
  const [job] = await here.jobs();
  t.match(job, { payload: { kind: 'index' }, result: { outcome: 'indexed', layers: 1, layersFromCache: 0 } });
  t.match(binding, { layer, home: { upstream: 'local', repository: 'team/app' }, by: 'accelerator-1' });
  const answer = await request(`${here.proxy}/v2/team/app/blobs/${binding.index}`);
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  t.equal(digestOf(bytes), binding.index);
  t.match(readIndexHead(bytes), { layer, diffId: binding.diffId });
  await here.webhook('PUSH_ARTIFACT', 'team/app', '1');
  await until(
    async () => areDone(await here.jobs()) && (await here.jobs())[0]?.result?.outcome === 'unchanged',
    'a second push of the same finds it',
    60_000,
  );
});

t.test('a record is told only where the layer itself would be served', { timeout: 120_000 }, async (t) => {
  const { here, layer } = await indexed(t);
  await pushBlob(here.proxy, 'team/other', Buffer.from('something else'));
  await t.rejects(recordOf(here, 'team/other', layer), { code: 'BLOB_UNKNOWN' });
  const unsigned = await request(`${here.proxy}/v1/layers/${layer}?upstream=local&repository=team/app`);
  t.equal(unsigned.statusCode, 403);
});

t.test('records are signed, and say where a layer is not lazy', { timeout: 120_000 }, async (t) => {
  const { here, layer, binding } = await indexed(t);
  const member = memberOf(t, here);
  const path = `/v1/layers/${layer}?upstream=local&repository=team%2Fapp`;
  const put = (one: LayerBinding) =>
    member.json({ ...at(here), method: 'PUT', path, json: { binding: one } });
  const other = digestOf(Buffer.from('other'));
  await t.rejects(put({ ...binding, diffId: other }), { code: 'SIGNATURE_INVALID' });
  const { signature: _old, ...facts } = binding;
  await t.rejects(put(signBinding(Buffer.alloc(32, 1), facts)), { code: 'SIGNATURE_INVALID' });
  t.same(await recordOf(here, 'team/app', layer), binding, 'nothing changed');
  // A layer that is no tar: read once, and never again.
  await here.push('team/odd', '1', 'x', {
    layers: [
      {
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
        digest: await pushBlob(here.proxy, 'team/odd', Buffer.alloc(1024, 'no archive ')),
        size: 1024,
      },
    ],
  });
  await here.webhook('PUSH_ARTIFACT', 'team/odd', '1');
  await until(
    async () => (await here.jobs()).length === 2 && areDone(await here.jobs()),
    'both jobs are done',
    60_000,
  );
  const odd = (await here.jobs()).find((job) => job.payload.repository === 'team/odd');
  t.match(odd?.result?.notLazy, [/^sha256:[0-9a-f]{64}: tar header is not valid: checksum/]);
});

t.test(
  'an index that is bad is bad for all, until somebody makes it anew',
  { timeout: 120_000 },
  async (t) => {
    const { here, layer, binding } = await indexed(t);
    const member = memberOf(t, here);
    const path = `/v1/layers/${layer}/complaints?upstream=local&repository=team%2Fapp`;
    const complain = (index: string | undefined) =>
      member.json({ ...at(here), method: 'POST', path, json: { index, reason: 'span 3 does not match' } });
    await complain(digestOf(Buffer.from('an older one')));
    t.equal((await recordOf(here, 'team/app', layer))?.bad, undefined, 'of another index nothing is noted');
    await complain(binding.index);
    t.match((await recordOf(here, 'team/app', layer))?.bad, { reason: 'span 3 does not match', by: 'test' });
    await here.webhook('PUSH_ARTIFACT', 'team/app', '1');
    await until(async () => areDone(await here.jobs()), 'the job is done', 60_000);
    t.ok((await recordOf(here, 'team/app', layer))?.bad, 'the rule leaves it alone');
  },
);

t.test(
  'an index that went with the repository it was kept in is made again by the next that needs it',
  { timeout: 120_000 },
  async (t) => {
    const { here, layer, binding } = await indexed(t);
    await here.push('team/second', '1', 'hello');
    t.equal((await here.manifest('team/second', '1'))!.layers[0]!.digest, layer, 'the same layer');
    const { code, stderr } = await here.cluster.sepia('purge', 'team/app', '--yes');
    t.equal(code, 0, stderr);
    const isThere = async ({ index, home }: LayerBinding): Promise<boolean> => {
      const { statusCode, body } = await request(`${here.proxy}/v2/${home.repository}/blobs/${index}`);
      await body.dump();
      return statusCode === 200;
    };
    t.notOk(await isThere(binding), 'the index is gone');
    await here.webhook('PUSH_ARTIFACT', 'team/second', '1');
    await until(
      async () => (await here.jobs()).length === 2 && areDone(await here.jobs()),
      'the second image was looked at',
      60_000,
    );
    const again = (await recordOf(here, 'team/second', layer))!;
    t.match(again, { index: binding.index, home: { upstream: 'local', repository: 'team/second' } });
    t.ok(await isThere(again));
  },
);
