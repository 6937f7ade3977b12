import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { startCrowdedMember } from '@sepia/test-support/cluster/crowded-member';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { CallWatch } from '../../src/cluster/members.ts';
import { OriginClient } from '../../src/cluster/origin-client.ts';
import { TrackerClient } from '../../src/cluster/tracker-client.ts';

const DIGEST = digestOf(Buffer.from('x'));
const NAME = { digest: DIGEST, upstream: 'local', repository: parseRepositoryName('app') };
const SIZE_BYTES = 4 * PIECE_BYTES;
const OPEN = Metainfo.open(DIGEST, SIZE_BYTES, '1'.repeat(32));
const LEASE = {
  ...{ bootId: 'b', seq: 1, addresses: [], ttlMs: 30_000, add: [], drop: [], leeching: [] },
  ...{ setHash: '0'.repeat(16), swarms: [] },
};

/** A tracker or an origin that answers no GET, and who asks it. */
async function crowded(t: Test, role: 'origin' | 'tracker') {
  const member = await startCrowdedMember(t, (method) => method === 'GET');
  const document = {
    version: 1,
    members: [
      { id: 'origin-1', role: 'origin', urls: [role === 'origin' ? member.url : 'http://127.0.0.1:1'] },
      { id: 'tracker-1', role: 'tracker', urls: [role === 'tracker' ? member.url : 'http://127.0.0.1:2'] },
    ],
    upstreams: [{ name: 'local', mode: 'none', hosts: [] }],
  };
  const cluster = new Cluster(parseClusterDocument(JSON.stringify(document), 'cluster.yaml'));
  const deps = { cluster, client: member.client, health: new CallWatch(() => performance.now()) };
  const origins = new OriginClient(deps);
  const [origin] = origins.targets(NAME);
  const gone = new AbortController();
  t.teardown(() => gone.abort());
  return { member, trackers: new TrackerClient(deps), origins, origin: origin!, gone };
}

t.test('a lease is renewed however many downloads wait for news of their blobs', async (t) => {
  const { member, trackers, gone } = await crowded(t, 'tracker');
  const polls = Array.from(
    { length: 5 },
    async () => await trackers.poll(NAME, OPEN, '', { waitMs: 60_000, doubtMs: 60_000 }, gone.signal),
  );
  await until(() => member.hung() === 2, 'two wait at the tracker, the others for a socket');
  t.same(await trackers.renew('tracker-1', 'agent-1', LEASE), {});
  gone.abort(new CodedError('TIMEOUT'));
  t.ok((await Promise.allSettled(polls)).every(({ status }) => status === 'rejected'));
});

t.test('an origin is told what is wrong however many bodies and waits are under way', async (t) => {
  const { member, origins, origin, gone } = await crowded(t, 'origin');
  const { signal } = gone;
  const calls = Array.from({ length: 3 }, () => [
    origins.small(NAME, [origin], signal),
    origins.piece(NAME, SIZE_BYTES, 0, origin, signal),
    origins.range(NAME, 0, 10, origin, signal),
    origins.leaves(NAME, 0, 1, origin, signal),
    origins.vouched(NAME, { sizeBytes: SIZE_BYTES, index: 0, lastPiece: 0 }, origin, signal),
    origins.metainfo(NAME, { all: true }, signal),
    origins.poll(NAME, OPEN, '', origin, signal),
  ]).flat();
  await until(() => member.hung() === 4, 'two bodies, and two that are waited for');
  await origins.complain(NAME, 0, origin, AbortSignal.timeout(20_000));
  gone.abort(new CodedError('TIMEOUT'));
  t.ok((await Promise.allSettled<unknown>(calls)).every(({ status }) => status === 'rejected'));
  t.equal(member.hung(), 4);
});
