import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { type ColdLayer, MIB, PullThrough } from '@sepia/test-support/cluster/pull-through';
import { until } from '@sepia/test-support/until';
import t from 'tap';

/** Ids of the origins that have the layer, or the manifest of its image. */
async function keepers(here: PullThrough, layer: ColdLayer, digest = layer.digest): Promise<string[]> {
  const { repository } = layer;
  const { path } = to(ORIGIN_BLOBS.where, { upstream: 'up', repository, digest } as never);
  const found: string[] = [];
  for (const [at, url] of here.cluster.originUrls.entries()) {
    const where = await here.cluster.ask<{ state: string }>(url, path).catch(() => undefined);
    if (where?.state === 'final') found.push(`origin-${at + 1}`);
  }
  return found;
}

t.test('cached-replicas: 2, the origin that fetched a blob is lost: it is served all the same', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    agents: 3,
    upstream: { 'cached-replicas': 2 },
  });
  for (const bytes of [2 * MIB + 7, 90_000]) {
    const layer = await here.hinted(bytes);
    t.ok((await layer.get()).bytes.equals(layer.content));
    const two = await until(async () => {
      const ids = await keepers(here, layer);
      return ids.length === 2 ? ids : undefined;
    }, 'two origins have it');
    t.equal(layer.requests.length, 1, 'the upstream sent it once');
    const { manifest } = layer.image;
    await until(
      async () => (await keepers(here, layer, manifest.digest)).length >= 2,
      'two origins have its manifest',
    );
    for (const agent of [1, 2]) await layer.hint(agent);
    await here.cluster.stopMember('agent-1');
    await here.upstream.down();
    for (const [at, id] of two.entries()) {
      await here.cluster.stopMember(id);
      const { status } = await layer.get({ range: 'bytes=5-8' }, 1 + at);
      t.equal(status, 206, `without ${id}`);
      await here.cluster.startMember(id);
    }
    await here.upstream.up();
    await here.cluster.startMember('agent-1');
  }
});

t.test('by default one origin keeps what was fetched', async (t) => {
  await using here = await PullThrough.start(t.testdir());
  const layer = await here.hinted(2 * MIB);
  t.ok((await layer.get()).bytes.equals(layer.content));
  const [keeper] = await until(async () => {
    const ids = await keepers(here, layer);
    return ids.length > 0 ? ids : undefined;
  }, 'an origin has it');
  const status = await here.cluster.ask<{ copiesOwed: number }>(
    here.cluster.originUrls[Number(keeper!.at(-1)) - 1]!,
    '/v1/status',
  );
  t.equal(status.copiesOwed, 0);
  t.same(await keepers(here, layer), [keeper]);
});
