import type { Constellation } from '@sepia/test-support/cluster/constellation';
import { PullThrough } from '@sepia/test-support/cluster/pull-through';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';

/** More wait than are sent in 3 s, and fewer than may wait. */
const CROWD = 20;
const PER_SECOND = 4;

/** Whom clients ask, in turn. */
function doors({ proxyUrls, agents }: Constellation): readonly string[] {
  return [...proxyUrls, ...agents.map(({ url }) => url)];
}

/** All of a crowd ask at once and leave while most of them wait for their turn; then one more asks. */
async function herd(here: PullThrough, paths: readonly string[]) {
  const { upstream, cluster } = here;
  const urls = doors(cluster);
  const gone = new AbortController();
  const asked = (): number =>
    upstream.log.filter(({ path }) => paths.some((one) => path.endsWith(one))).length;
  const crowd = Array.from({ length: CROWD }, async (_, at) => {
    const path = paths[at % paths.length]!;
    const answer = await request(`${urls[at % urls.length]}/v2/${path}`, { signal: gone.signal });
    await answer.body.dump();
    return answer.statusCode;
  });
  // The second turn of a second: the crowd is all there.
  await until(() => asked() > PER_SECOND, 'some are sent');
  gone.abort();
  const answered = (await Promise.allSettled(crowd)).filter(({ status }) => status === 'fulfilled').length;
  const sent = asked();
  return { answered, sent, sentSince: () => asked() - sent };
}

for (const kind of ['manifests', 'tags'] as const)
  t.test(`clients that leave take no turns at the upstream: ${kind}`, async (t) => {
    await using here = await PullThrough.start(t.testdir(), {
      origins: kind === 'tags' ? 1 : 3,
      proxies: 2,
      agents: 2,
      upstream: { 'requests-per-second': PER_SECOND, tags: { ttl: '0s' } },
    });
    const layer = here.image(1_000);
    const tags = Array.from({ length: CROWD }, (_, at) => `t${at}`);
    here.upstream.push(layer.repository, layer.image, ...tags);
    const { repository } = layer;
    for (const url of doors(here.cluster))
      await request(`${url}/v2/${repository}/manifests/v1`).then(({ body }) => body.dump());
    const paths =
      kind === 'tags' ? [`${repository}/tags/list`] : tags.map((tag) => `${repository}/manifests/${tag}`);
    const { answered, sent, sentSince } = await herd(here, paths);
    t.ok(answered < CROWD, `${answered} of ${CROWD} had an answer, ${sent} requests were sent`);
    const calm = await request(`${here.cluster.proxyUrls[0]}/v2/${repository}/manifests/v1`);
    await calm.body.dump();
    t.equal(calm.statusCode, 200);
    t.ok(sentSince() < CROWD - sent, `${sentSince()} were sent after all had left`);
  });
