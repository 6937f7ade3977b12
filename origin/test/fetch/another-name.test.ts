import type { ServerResponse } from 'node:http';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { TestUpstream } from '../support/upstream.ts';

t.test('who joined the fetch of another name is not told what that name is refused', async (t) => {
  const [one, other] = [await TestUpstream.start(t), await TestUpstream.start(t)];
  const hubs = Object.entries({ one, other }).map(([name, { url }]) => ({
    ...{ name, url, mode: 'pull-through' },
  }));
  const c = await startCluster(t, { origins: 1, upstreams: hubs });
  const bytes = Buffer.from(bytesOf(600_000, 1));
  const digest = one.addBlob(bytes);
  other.addBlob(bytes);
  const held: ServerResponse[] = [];
  one.fault = (req, res) => {
    if (req.method === 'HEAD' || req.url?.includes('/secret/') !== true) return false;
    held.push(res);
    return true;
  };
  const get = async (upstream: string, repository: string) =>
    await c.get('o1', `/v1/blobs/${digest}?upstream=${upstream}&repository=${repository}`);
  const refused = get('one', 'secret/app');
  await until(() => held.length > 0, 'it is fetched');
  const asked = [get('other', 'team/app'), get('one', 'open/app')];
  await until(
    () => [one, other].every(({ requests }) => requests.some((line) => /HEAD .*\/(team|open)\//.test(line))),
    'they prove to have it',
  );
  // They join what is under way.
  await c.get('o1', `/v1/blobs/${digest}/where?upstream=other&repository=team/app`);
  for (const res of held) res.writeHead(403).end();
  t.equal((await refused).status, 403);
  for (const answer of await Promise.all(asked)) {
    t.equal(answer.status, 200, answer.bytes.toString().slice(0, 300));
    t.ok(answer.bytes.equals(bytes));
  }
});
