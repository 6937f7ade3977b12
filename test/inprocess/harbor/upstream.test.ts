import { pullImage } from '@sepia/test-support/clients/registry-client';
import { PullThrough } from '@sepia/test-support/cluster/pull-through';
import { makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;

t.test(
  'a proxy-cache project: HEAD of blobs is 404, ranges are ignored, many misses are one pull',
  async (t) => {
    await using here = await PullThrough.start(t.testdir(), { agents: 3, proxies: 3, origins: 7 });
    const layer = here.image(3 * MIB);
    here.upstream.misbehave({ kind: 'blob', method: 'HEAD', does: { type: 'status', status: 404 } });
    here.upstream.misbehave({ kind: 'blob', method: 'GET', does: { type: 'ignore-range' } });
    here.upstream.misbehave({ kind: 'manifest', times: 1, does: { type: 'no-digest' } });
    await Promise.all(here.cluster.agents.map((agent) => pullImage(agent.url, layer.repository, 'v1', 'up')));
    t.equal(layer.requests.length, 1);
    t.equal(layer.upstreamBytes, 3 * MIB);
  },
);

t.test('a policy gate is 412 with the text of the registry, from agent and proxy', async (t) => {
  await using here = await PullThrough.start(t.testdir());
  const image = makeImage({ layers: [10_000], seed: 'gated' });
  here.upstream.push('team/gated', image, 'v1');
  const body =
    '{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"current image with 3 critical vulnerabilities"}]}';
  here.upstream.misbehave({ kind: 'manifest', does: { type: 'status', status: 412, body } });
  for (const url of [here.cluster.agents[0]!.url, here.cluster.proxyUrls[0]!]) {
    const answer = await request(`${url}/v2/team/gated/manifests/v1?ns=up`);
    const text = await answer.body.text();
    t.equal(answer.statusCode, 412, text);
    t.match(text, /PROJECTPOLICYVIOLATION/);
    t.match(text, /3 critical vulnerabilities/);
  }
});

t.test('429 is passed on with Retry-After, never a 404', async (t) => {
  await using here = await PullThrough.start(t.testdir());
  const image = makeImage({ layers: [10_000], seed: 'limited' });
  here.upstream.push('team/limited', image, 'v1');
  here.upstream.misbehave({
    kind: 'manifest',
    does: { type: 'status', status: 429, headers: { 'retry-after': '7' } },
  });
  for (const url of [here.cluster.agents[0]!.url, here.cluster.proxyUrls[0]!]) {
    const answer = await request(`${url}/v2/team/limited/manifests/v1?ns=up`);
    t.match(await answer.body.json(), { errors: [{ code: 'TOOMANYREQUESTS' }] });
    t.equal(answer.statusCode, 429, url);
    t.match(answer.headers['retry-after'], /^[1-7]$/);
    const head = await request(`${url}/v2/team/limited/manifests/other?ns=up`, { method: 'HEAD' });
    t.equal(head.statusCode, 429, url);
    t.match(head.headers['retry-after'], /^[1-7]$/);
  }
});
