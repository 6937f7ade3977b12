import t from 'tap';
import { ask, pushBlob, randomContent } from '../support/client.ts';
import { startCluster } from '../support/fake-cluster.ts';

const MIB = 1024 * 1024;

t.test('a whole body on an empty session goes straight to an owner', async (t) => {
  const { proxies, origins, cluster } = await startCluster(t, { origins: 7 });
  const { url } = proxies[0]!;
  const content = randomContent(2 * MIB);
  t.equal((await pushBlob(url, 'app', content)).status, 201);
  const puts = origins.filter((origin) => origin.calls.includes(`PUT /v1/blobs/${content.digest}`));
  t.equal(puts.length, 1);
  t.ok(cluster.origins(content.digest).owners.includes(puts[0]!.id), 'it is an owner');
  // An origin that is silent for half a second has another asked beside it, whose empty session is left to its time.
  const begun = origins.flatMap(({ calls }) => calls.filter((call) => call === 'POST /v1/uploads')).length;
  const left = origins.reduce((sum, { uploads }) => sum + uploads.size, 0);
  t.ok(left < begun, `the empty session was dropped: ${left} left of ${begun}`);
});

t.test('a small whole body ends its session at the stager: two calls in all', async (t) => {
  const { proxies, origins } = await startCluster(t, { origins: 7 });
  const { url } = proxies[0]!;
  const content = randomContent(10_000);
  const before = origins.map((origin) => origin.calls.length);
  t.equal((await pushBlob(url, 'app', content)).status, 201);
  const calls = origins.flatMap((origin, index) => origin.calls.slice(before[index]));
  const made = calls.map((call) => call.split('/').slice(0, 3).join('/'));
  const own = made.filter((call) => call !== 'GET /v1/cluster');
  t.same([...new Set(own)], ['POST /v1/uploads', 'PUT /v1/uploads']);
  t.equal(own.filter((call) => call.startsWith('PUT')).length, 1, 'a session that comes late is not used');
  t.equal((await ask(`${url}/v2/app/blobs/${content.digest}`)).status, 200);
});
