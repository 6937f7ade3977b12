import t from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { change, memberOf, RING_CONFIG, untilEpoch } from '../support/ring.ts';

t.test('no change begins in mid-sweep, no sweep runs while the ring changes', async (t) => {
  const c = await startCluster(t, { origins: 3, ring: 2, config: RING_CONFIG });
  await c.start('o3');
  const add = { action: 'add', members: [memberOf(c, 'o3')] };
  t.equal((await post(c, 'o2', '/v1/gc/condemn', { generation: 'sweep', keys: ['a'] })).status, 200);
  await t.rejects(change(c, 'o1', 0, add), /garbage is being collected/);
  t.equal((await post(c, 'o2', '/v1/gc/release', { generation: 'sweep' })).status, 200);
  await change(c, 'o1', 0, add);
  const refused = await post(c, 'o1', '/v1/gc/condemn', { generation: 'sweep', keys: [] });
  t.match(refused, { status: 503, text: /the ring changes: add o3/ });
  await untilEpoch(c, 2);
  t.equal((await post(c, 'o1', '/v1/gc/condemn', { generation: 'sweep', keys: [] })).status, 200);
});

async function post(
  c: TestCluster,
  id: string,
  path: string,
  json: object,
): Promise<{ status: number; text: string }> {
  const answer = await c.call(id, {
    method: 'POST',
    path,
    body: JSON.stringify(json),
    headers: { 'content-type': 'application/json' },
  });
  return { status: answer.status, text: answer.bytes.toString() };
}
