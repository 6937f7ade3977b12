import { parseRepositoryName } from '@sepia/base/names/repository';
import type { AccessItem } from '@sepia/cluster/api/access';
import { ORIGIN_BLOBS, ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { accessCall } from '@sepia/face/door/upstream-access';
import { until } from '@sepia/test-support/until';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';

const repository = parseRepositoryName('team/app');
const NAME = { upstream: 'up', repository };
const PER_SECOND = 2;
/** More than are sent in 4 s, and no more than may wait. */
const CROWD = 9;

const image = makeImage({ layers: Array.from({ length: CROWD }, (_, at) => 1_000 + at), seed: 'leavers' });
const manifestItem = (tag: string): AccessItem => ({ kind: 'manifest', reference: tag });

/** What members ask an origin on behalf of clients, each of its own. */
const CALLS = {
  'a tag': (at: number) => to(ORIGIN_NAMES.manifest, { ...NAME, reference: `t${at}` }),
  'a manifest by tag, asked anew': (at: number) =>
    to(ORIGIN_NAMES.manifest, { ...NAME, reference: `t${at}`, fresh: true }),
  'a list of tags': () => to(ORIGIN_NAMES.tags, NAME),
  'who may read': (at: number) => accessCall(NAME, manifestItem(`t${at}`)),
  'the size of a blob': (at: number) =>
    ({ ...to(ORIGIN_BLOBS.blob, { ...NAME, digest: image.layers[at]! }), method: 'HEAD' }) as const,
};

for (const [what, call] of Object.entries(CALLS))
  t.test(`whose client has left takes no turn at the upstream: ${what}`, async (t) => {
    const upstream = await FakeUpstream.start();
    t.teardown(() => upstream.stop());
    upstream.push(repository, image, ...Array.from({ length: CROWD }, (_, at) => `t${at}`));
    const c = await startCluster(t, {
      origins: 1,
      upstreams: [{ name: 'up', mode: 'pull-through', url: upstream.url, 'requests-per-second': PER_SECOND }],
    });
    const gone = new AbortController();
    const crowd = Array.from({ length: CROWD }, (_, at) =>
      c.call('o1', { ...call(at), signal: gone.signal }),
    );
    const settled = Promise.allSettled(crowd);
    // One of the second turn is sent: they are all there.
    await until(() => upstream.log.length > PER_SECOND, 'some are sent');
    gone.abort();
    await settled;
    const sent = upstream.log.length;
    const calm = await c.call('o1', to(ORIGIN_NAMES.tags, NAME));
    t.equal(calm.status, 200);
    const since = upstream.log.length - sent;
    t.ok(since < CROWD - sent, `${since} of ${CROWD} were sent after all had left, with that of the last`);
  });
