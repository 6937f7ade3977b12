import t from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { pushTag } from '../support/images.ts';

interface Dumped {
  readonly entries: readonly { readonly key: string; readonly stored: unknown }[];
}

const NAME = 'upstream=local&repository=team/app';

async function restore(c: TestCluster, entries: Dumped['entries']): Promise<void> {
  const answer = await c.call('o1', {
    method: 'POST',
    path: '/v1/restore',
    body: JSON.stringify({ space: 'r1', entries }),
    headers: { 'content-type': 'application/json' },
  });
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.bytes}`);
}

t.test('a tag that a restore puts back beside the delete of its manifest goes with that', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  const deleted = await pushTag(c, 'o1', 'team/app', 'v1');
  await pushTag(c, 'o1', 'team/app', 'kept');
  const backup = JSON.parse((await c.get('o1', '/v1/backup/r1')).bytes.toString());
  const { entries } = backup as Dumped;
  t.equal(entries.length, 2);
  const gone = await c.call('o2', {
    method: 'DELETE',
    path: `/v1/manifests?${NAME}&reference=${deleted.manifest}`,
  });
  t.equal(gone.status, 204, gone.bytes.toString());
  // A tag of the backup that the cluster never had: the delete could not find it.
  const v1 = entries.find(({ key }) => key.endsWith('v1'))!;
  await restore(c, [...entries, { ...v1, key: `${v1.key.slice(0, -2)}v2` }]);
  const status = async (tag: string): Promise<number> =>
    (await c.get('o3', `/v1/manifests?${NAME}&reference=${tag}`)).status;
  t.same([await status('v1'), await status('v2'), await status('kept')], [404, 404, 200]);
  const listed = await c.get('o3', `/v1/tags?${NAME}`);
  t.match(listed.bytes.toString(), /"kept"/);
  t.notMatch(listed.bytes.toString(), /"v[12]"/, 'no tag is left that leads nowhere');
});
