import { PullThrough } from '@sepia/test-support/cluster/pull-through';
import t from 'tap';
import { request } from 'undici';

t.test('a policy gate of the registry stops an image that agent and proxy have cached', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    upstream: { 'manifest-recheck': 'always', tags: { ttl: '1h' } },
  });
  const layer = await here.hinted(100_000);
  const { digest } = layer.image.manifest;
  const ask = async (url: string) => {
    const answer = await request(`${url}/v2/${layer.repository}/manifests/${digest}`);
    return { status: answer.statusCode, text: await answer.body.text() };
  };
  const [agent, proxy] = [here.cluster.agents[0]!.url, here.cluster.proxyUrls[0]!];
  for (const url of [agent, proxy, agent]) t.equal((await ask(url)).status, 200);
  const body = '{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"has vulnerabilities"}]}';
  const lift = here.upstream.misbehave({ kind: 'manifest', does: { type: 'status', status: 412, body } });
  for (const url of [agent, proxy]) {
    const { status, text } = await ask(url);
    t.equal(status, 412, url);
    t.match(text, /policy/);
  }
  lift();
  t.equal((await ask(agent)).status, 200);
  for (const id of ['proxy-1', 'origin-1', 'origin-2', 'origin-3']) await here.cluster.stopMember(id);
  await here.upstream.down();
  t.equal((await ask(agent)).status, 200, 'nobody can be asked: what is cached is served');
});
