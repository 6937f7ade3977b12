import t from 'tap';
import { backupOf, restoreAt } from '../support/backup.ts';
import { startCluster } from '../support/cluster.ts';
import { pushTag } from '../support/images.ts';

const NAME = 'upstream=local&repository=team/app';

t.test('a tag that a restore puts back beside the delete of its manifest goes with that', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  const deleted = await pushTag(c, 'o1', 'team/app', 'v1');
  await pushTag(c, 'o1', 'team/app', 'kept');
  const entries = await backupOf(c, 'r1');
  t.equal(entries.length, 2);
  const gone = await c.call('o2', {
    method: 'DELETE',
    path: `/v1/manifests?${NAME}&reference=${deleted.manifest}`,
  });
  t.equal(gone.status, 204, gone.bytes.toString());
  // A tag of the backup that the cluster never had: the delete could not find it.
  const v1 = entries.find(({ key }) => key.endsWith('v1'))!;
  await restoreAt(c, 'o1', 'r1', [...entries, { ...v1, key: `${v1.key.slice(0, -2)}v2` }]);
  const status = async (tag: string): Promise<number> =>
    (await c.get('o3', `/v1/manifests?${NAME}&reference=${tag}`)).status;
  t.same([await status('v1'), await status('v2'), await status('kept')], [404, 404, 200]);
  const listed = await c.get('o3', `/v1/tags?${NAME}`);
  t.match(listed.bytes.toString(), /"kept"/);
  t.notMatch(listed.bytes.toString(), /"v[12]"/, 'no tag is left that leads nowhere');
});
