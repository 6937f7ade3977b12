import { digestOf } from '@sepia/base/digest';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { call, pushBlobInTwo, pushManifest } from '@sepia/test-support/clients/registry-calls';
import { conversionCluster } from '@sepia/test-support/cluster/conversion-cluster';
import { IndexingClusters, pushTextImage } from '@sepia/test-support/cluster/indexing-cluster';
import { until } from '@sepia/test-support/until';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import t from 'tap';

const ARTIFACT = 'application/vnd.sepia.layer-indexes.v1';

t.setTimeout(240_000);

t.test('indexes that one cluster pushed are taken by another, and checked', async (t) => {
  const clusters = new IndexingClusters(t);
  // A registry without the referrers API: the list stands under a tag there.
  const registry = await TestTarget.start(t);
  const { image, layer } = await pushTextImage(registry.url, 'team/app', '1');
  const first = await clusters.start('first', registry.url, { 'push-index': true });
  const target = new RegExp(`^${new URL(registry.url).host}/team/app@sha256:`);
  t.match(await first.index('team/app', '1'), { state: 'done', result: { outcome: 'indexed', target } });
  const [referrer] = await first.referrers('team/app', image);
  t.equal(referrer?.artifactType, ARTIFACT);
  t.equal(registry.manifests.get(`team/app:${image.replace(':', '-')}`) === undefined, false);
  const own = (await first.binding('team/app', layer))!;
  t.ok(registry.blobs.has(`team/app@${own.index}`), 'the index is there');
  const sent = registry.requests.length;
  t.match(await first.index('team/app', '1'), { result: { outcome: 'unchanged', target } });
  t.notOk(
    registry.requests.slice(sent).some((one) => /^(?:PUT|POST|PATCH) /.test(one)),
    'nothing is sent twice',
  );

  const second = await clusters.start('second', registry.url);
  t.match(await second.index('team/app', '1'), {
    state: 'done',
    result: { outcome: 'indexed', layersTaken: 1 },
  });
  const taken = (await second.binding('team/app', layer))!;
  t.match(taken, { index: own.index, diffId: own.diffId, by: 'accelerator-1' });
  t.not(taken.signature, own.signature, 'its record is of its own');

  // Whoever may push may offer anything.
  const lie = Buffer.from(registry.blobs.get(`team/app@${own.index}`)!);
  lie[readIndexHead(lie).headBytes + 20]! ^= 1;
  await pushBlobInTwo(registry.url, 'team/app', lie);
  const list = `${registry.url}/v2/team/app/manifests/${image.replace(':', '-')}`;
  const honest = (await call('GET', `${registry.url}/v2/team/app/manifests/${referrer!.digest}`)).bytes;
  const text = honest.toString().replaceAll(own.index!, digestOf(lie));
  const lying = await pushManifest(registry.url, 'team/app', JSON.parse(text) as object);
  const listed = (await call('GET', list)).json<{ manifests: object[] }>();
  const manifests = [{ ...referrer, digest: lying, size: text.length }];
  await pushManifest(registry.url, 'team/app', { ...listed, manifests }, image.replace(':', '-'));
  const third = await clusters.start('third', registry.url);
  t.match(await third.index('team/app', '1'), {
    state: 'done',
    result: { outcome: 'indexed', layersTaken: undefined },
  });
  t.equal((await third.binding('team/app', layer))?.index, own.index, 'it made its own');
});

t.test('the referrer is no source, by no name', async (t) => {
  const here = await conversionCluster(t, [
    { name: 'index', from: 'local', repositories: ['**'], to: 'index', 'min-size': 1, 'push-index': true },
    { name: 'all', from: 'local', repositories: ['**'], tags: ['named'] },
  ]);
  await here.start('accelerator-1', { scan: '1s' });
  const image = await here.push('team/app', '1', 'hello');
  await until(async () => (await here.referrers('team/app', image)).length === 1, 'a scan pushes it', 60_000);
  const [referrer] = await here.referrers('team/app', image);
  const artifact = await call('GET', `${here.proxy}/v2/team/app/manifests/${referrer!.digest}`);
  await pushManifest(here.proxy, 'team/app', artifact.json<object>(), 'named');
  t.equal(await here.webhook('PUSH_ARTIFACT', 'team/app', 'named'), 202);
  const jobs = async () => (await here.jobs()).filter(({ payload }) => payload.tag === 'named');
  await until(
    async () => (await jobs()).length === 2 && (await jobs()).every(({ state }) => state === 'done'),
    'both rules looked at it',
    60_000,
  );
  for (const { result } of await jobs())
    t.match(result, { outcome: 'skipped', reason: 'it is not an image of layers' });
  t.equal((await here.referrers('team/app', image)).length, 1);
  t.same(await here.referrers('team/app', referrer!.digest), [], 'nothing is attached to it');
});
