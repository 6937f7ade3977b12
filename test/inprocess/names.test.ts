import { pullUntilGiven } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';

t.test('two upstreams at once: ns, host in the path, listener default, Docker Hub names', async (t) => {
  const first = await FakeUpstream.start();
  const hub = await FakeUpstream.start();
  t.teardown(() => Promise.all([first.stop(), hub.stop()]));
  const ours = makeImage({ layers: [300_000], seed: 'ours' });
  const theirs = makeImage({ layers: [300_000], seed: 'theirs' });
  first.push('library/app', ours, 'v1');
  hub.push('library/app', theirs, 'v1');
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    upstreams: [
      { name: 'first', url: first.url, hosts: ['registry.example:5000'], mode: 'pull-through' },
      { name: 'hub', url: hub.url, hosts: ['docker.io'], mode: 'pull-through' },
    ],
  });
  const url = cluster.agents[0]!.url;
  const digestOf = async (path: string): Promise<string | number> => {
    const answer = await request(`${url}/v2/${path}`, { method: 'HEAD' });
    await answer.body.dump();
    return answer.statusCode === 200 ? String(answer.headers['docker-content-digest']) : answer.statusCode;
  };
  const cases: [string, string, string | number][] = [
    ['no name: the first upstream', 'library/app/manifests/v1', ours.manifest.digest],
    ['ns of its further host', 'library/app/manifests/v1?ns=registry.example%3A5000', ours.manifest.digest],
    [
      'ns of its own address',
      `library/app/manifests/v1?ns=${encodeURIComponent(new URL(first.url).host)}`,
      ours.manifest.digest,
    ],
    ['ns of the Hub', 'library/app/manifests/v1?ns=docker.io', theirs.manifest.digest],
    [
      'the Hub by its other names',
      'library/app/manifests/v1?ns=registry-1.docker.io',
      theirs.manifest.digest,
    ],
    ['a bare name of the Hub gets library/', 'app/manifests/v1?ns=docker.io', theirs.manifest.digest],
    ['host in the path', 'registry.example:5000/library/app/manifests/v1', ours.manifest.digest],
    ['Hub in the path, bare name', 'docker.io/app/manifests/v1', theirs.manifest.digest],
    [
      'a first part that is no host of ours is part of the name',
      'library/app/manifests/v1',
      ours.manifest.digest,
    ],
    ['unknown ns', 'library/app/manifests/v1?ns=evil.example', 404],
    ['unknown tag', 'library/app/manifests/v9', 404],
  ];
  for (const [title, path, expected] of cases) t.equal(await digestOf(path), expected, title);
  for (const door of [url, cluster.proxyUrls[0]!]) {
    const list = await request(`${door}/v2/docker.io/app/tags/list`);
    t.match(await list.body.json(), { name: 'docker.io/app', tags: ['v1'] }, 'a list names what was asked');
  }

  t.ok((await pullUntilGiven(url, 'library/app', 'v1', 'docker.io')) > 300_000);
  t.ok((await pullUntilGiven(url, 'library/app', 'v1')) > 300_000);

  const foreign = await request(`${url}/v2/library/app/blobs/${theirs.layers[0]!}`);
  await foreign.body.dump();
  t.equal(foreign.statusCode, 404, 'a layer of one upstream is not there under the same name of the other');
});

t.test('a Docker Hub mirror is a listener of its own', async (t) => {
  const hub = await FakeUpstream.start();
  t.teardown(() => hub.stop());
  const image = makeImage({ layers: [1000], seed: 'hub' });
  hub.push('library/alpine', image, '3');
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'hub', url: hub.url, hosts: ['docker.io'], mode: 'pull-through' },
    ],
    agent: { listeners: [{ listen: '127.0.0.1:0' }, { listen: '127.0.0.1:0', 'default-upstream': 'hub' }] },
  });
  const [plain, mirror] = cluster.agents[0]!.urls;
  const status = async (base: string, ns?: string): Promise<number> => {
    const query = ns === undefined ? '' : `?ns=${encodeURIComponent(ns)}`;
    const answer = await request(`${base}/v2/library/alpine/manifests/3${query}`, { method: 'HEAD' });
    await answer.body.dump();
    return answer.statusCode;
  };
  t.equal(await status(plain!), 404, 'the plain listener means the first upstream');
  t.equal(await status(mirror!), 200);
  for (const url of [plain!, mirror!]) {
    t.equal(await status(url, new URL(mirror!).host), 200, 'its address stands for its upstream');
    t.equal(await status(url, `localhost:${new URL(plain!).port}`), 404);
  }
});
