import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import { call as ask } from '@sepia/test-support/clients/registry-calls';
import { pullUntilGiven } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until, untilAnswered } from '@sepia/test-support/until';
import { type FakeImage, FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import { call, type HarborAnswer } from '@sepia/test-support/upstream/harbor-calls';
import t, { type Test } from 'tap';
import { request } from 'undici';

const KIB = 1024;
const SECRET = 'Sepia-Hook 5e:cret';
/** What is carried out asks within this, on a busy machine too. */
const QUIET_MS = 2_000;

interface Here {
  readonly cluster: Constellation;
  readonly harbor: FakeUpstream;
  readonly next: () => string;
  send(event: object, authorization?: string): Promise<HarborAnswer>;
}

async function setUp(t: Test, agents = 0): Promise<Here> {
  const harbor = await FakeUpstream.start();
  t.teardown(() => harbor.stop());
  const dir = t.testdir();
  const file = join(dir, 'hook');
  writeFileSync(file, `${SECRET}\n`);
  const cluster = await Constellation.start(join(dir, 'cluster'), {
    origins: 7,
    proxies: 3,
    trackers: 2,
    agents,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'harbor', url: harbor.url, mode: 'pull-through', hosts: ['harbor.test'], tags: { ttl: '1h' } },
    ],
    proxy: {
      'audit-log': join(dir, 'audit.log'),
      harbor: {
        webhook: {
          auth: 'header',
          'authorization-file': file,
          prefetch: [{ repositories: ['team/nodes/**'], scope: 'all_peers' }, { repositories: ['team/**'] }],
        },
      },
    },
  });
  t.teardown(() => cluster.stop());
  let turn = 0;
  const next = (): string => cluster.proxyUrls[turn++ % 3]!;
  // What is answered with 503 is sent again, as Harbor does.
  const send = async (event: object, authorization = SECRET): Promise<HarborAnswer> =>
    await untilAnswered(
      async () => await call('POST', `${next()}/webhooks/harbor`, event, { authorization }),
      'a delivery',
    );
  return { cluster, harbor, next, send };
}

let stamp = 1_763_917_200;

function event(type: string, repository: string, image: FakeImage, tag: string): object {
  stamp += 1;
  const [namespace = '', ...name] = repository.split('/');
  const { digest } = image.manifest;
  return {
    type,
    occur_at: stamp,
    operator: 'admin',
    event_data: {
      resources: [
        { digest, tag, resource_url: `harbor.test/${repository}${tag.includes(':') ? '@' : ':'}${tag}` },
      ],
      repository: { name: name.join('/'), namespace, repo_full_name: repository, repo_type: 'private' },
    },
  };
}

/** Digest that a tag has at a proxy or agent; its status when there is none. */
async function digestAt(url: string, repository: string, reference: string): Promise<string | number> {
  const { status, headers } = await untilAnswered(
    async () => await ask('GET', `${url}/v2/${repository}/manifests/${reference}?ns=harbor.test`),
    `${reference} at ${url}`,
  );
  return status === 200 ? String(headers['docker-content-digest']) : status;
}

async function holderCount(here: Here, repository: string, digest: string): Promise<number> {
  const path = `/v1/blobs/${digest}/where?upstream=harbor&repository=${encodeURIComponent(repository)}`;
  const states = await Promise.all(
    here.cluster.originUrls.map((url) => here.cluster.ask<{ state: string }>(url, path)),
  );
  return states.filter(({ state }) => state === 'final').length;
}

t.test('a push refreshes the tag at once although it is believed for an hour', async (t) => {
  const here = await setUp(t);
  const [one, two] = [1, 2].map((seed) => makeImage({ layers: [10 * KIB], seed: `w${seed}` }));
  here.harbor.push('library/app', one!, 'v1');
  t.equal(await digestAt(here.next(), 'library/app', 'v1'), one!.manifest.digest);
  here.harbor.push('library/app', two!, 'v1');
  t.equal(await digestAt(here.next(), 'library/app', 'v1'), one!.manifest.digest, 'as it was');
  const answer = await here.send(event('PUSH_ARTIFACT', 'library/app', two!, 'v1'));
  t.equal(answer.status, 202, answer.text);
  for (const url of here.cluster.proxyUrls)
    await until(
      async () => (await digestAt(url, 'library/app', 'v1')) === two!.manifest.digest,
      `new at ${url}`,
    );
  t.equal(await holderCount(here, 'library/app', two!.layers[0]!), 0, 'no policy brings its blobs along');
});

t.test('a push brings blobs along where the policy says so; to nodes too', async (t) => {
  const here = await setUp(t, 2);
  const image = makeImage({ layers: [300 * KIB], seed: 'w3' });
  here.harbor.push('team/a/b', image, 'v1');
  await here.send(event('PUSH_ARTIFACT', 'team/a/b', image, 'v1'));
  await until(async () => (await holderCount(here, 'team/a/b', image.layers[0]!)) >= 1, 'origins have it');
  const other = makeImage({ layers: [300 * KIB], seed: 'w4' });
  here.harbor.push('team/nodes/app', other, 'v1');
  await here.send(event('PUSH_ARTIFACT', 'team/nodes/app', other, other.manifest.digest));
  const before = (): number => here.harbor.blobBytes;
  await until(
    async () => (await holderCount(here, 'team/nodes/app', other.layers[0]!)) >= 1,
    'origins have it',
  );
  const has = async (url: string): Promise<boolean> => {
    const answer = await request(`${url}/v2/team/nodes/app/blobs/${other.layers[0]!}?ns=harbor.test`, {
      method: 'HEAD',
    });
    await answer.body.dump();
    return answer.statusCode === 200;
  };
  for (const id of ['agent-1', 'agent-2']) {
    const cached = join(here.cluster.dataOf(id), 'v1', 'blobs', 'sha256');
    const hex = other.layers[0]!.slice(7);
    const { existsSync } = await import('node:fs');
    await until(() => existsSync(join(cached, hex.slice(0, 2), hex)), `${id} has it`);
  }
  const bytes = before();
  for (const agent of here.cluster.agents) t.ok(await has(agent.url));
  t.equal(before(), bytes);
});

t.test('a deletion is purged from origins, proxies and nodes, with every tag of the digest', async (t) => {
  const here = await setUp(t, 1);
  const [agent] = here.cluster.agents;
  const image = makeImage({ layers: [300 * KIB], seed: 'w5' });
  const { digest } = image.manifest;
  here.harbor.push('library/app', image, 'v1', 'also');
  await pullUntilGiven(agent!.url, 'library/app', 'v1', 'harbor.test');
  for (const url of [...here.cluster.proxyUrls, agent!.url])
    for (const reference of ['v1', 'also', digest])
      t.equal(await digestAt(url, 'library/app', reference), digest);
  const early = await here.send(event('DELETE_ARTIFACT', 'library/app', image, 'v1'));
  t.equal(early.status, 202);
  t.equal(await digestAt(here.next(), 'library/app', digest), digest, 'the registry still has it');
  for (const reference of ['v1', 'also', digest]) here.harbor.removeTag('library/app', reference);
  t.equal((await here.send(event('DELETE_ARTIFACT', 'library/app', image, 'v1'))).status, 202);
  for (const url of [...here.cluster.proxyUrls, agent!.url])
    for (const reference of [digest, 'v1', 'also'])
      await until(
        async () => (await digestAt(url, 'library/app', reference)) === 404,
        `${reference} is gone at ${url}`,
      );
  // Noted when the origins are done: the last of them may be so a moment after the tags are gone.
  const purges = (): string[] =>
    readFileSync(join(here.cluster.dir, '..', 'audit.log'), 'utf8')
      .split('\n')
      .filter((line) => line.includes('"event":"purge"'));
  await until(() => purges().length > 0, 'the purge is noted');
  t.match(JSON.parse(purges()[0]!), {
    upstream: 'harbor',
    repository: 'library/app',
    reference: 'v1',
    digest,
  });
});

t.test('a repeated delivery is taken once; order does not matter', async (t) => {
  const here = await setUp(t);
  const [one, two] = [6, 7].map((seed) => makeImage({ layers: [200 * KIB], seed: `w${seed}` }));
  here.harbor.push('team/app', one!, 'v1');
  const first = event('PUSH_ARTIFACT', 'team/app', one!, 'v1');
  here.harbor.push('team/app', two!, 'v1');
  const second = event('PUSH_ARTIFACT', 'team/app', two!, 'v1');
  const answers = await Promise.all([second, first, second, first, second].map((one) => here.send(one)));
  t.same(
    answers.map(({ status }) => status),
    [202, 202, 202, 202, 202],
  );
  for (const url of here.cluster.proxyUrls)
    await until(async () => (await digestAt(url, 'team/app', 'v1')) === two!.manifest.digest, 'the newest');
  // All five are carried out when nothing more is asked for a while.
  let heads = -1;
  const isSettled = async (): Promise<boolean> => {
    const before = here.harbor.requests('manifest').length;
    await delay(QUIET_MS);
    heads = here.harbor.requests('manifest').length;
    return heads === before;
  };
  await until(isSettled, 'what was delivered is carried out');
  await here.send(second);
  await here.send(first);
  t.equal(here.harbor.requests('manifest').length, heads, 'known deliveries ask nothing');
});

t.test(
  'what was answered with 2xx is done although the registry was away and the proxy is gone',
  async (t) => {
    const here = await setUp(t);
    const [one, two] = [8, 9].map((seed) => makeImage({ layers: [10 * KIB], seed: `w${seed}` }));
    here.harbor.push('library/app', one!, 'v1');
    t.equal(await digestAt(here.next(), 'library/app', 'v1'), one!.manifest.digest);
    here.harbor.push('library/app', two!, 'v1');
    await here.harbor.down();
    const [first, ...others] = here.cluster.proxyUrls;
    const answer = await call(
      'POST',
      `${first}/webhooks/harbor`,
      event('PUSH_ARTIFACT', 'library/app', two!, 'v1'),
      { authorization: SECRET },
    );
    t.equal(answer.status, 202, answer.text);
    await here.cluster.stopMember('proxy-1');
    await here.harbor.up();
    for (const url of others)
      await until(
        async () => (await digestAt(url, 'library/app', 'v1')) === two!.manifest.digest,
        `new at ${url}`,
        40_000,
      );
  },
);

t.test('who may send, what is ignored, what is refused', async (t) => {
  const here = await setUp(t);
  const image = makeImage({ layers: [10 * KIB], seed: 'w8' });
  const push = event('PUSH_ARTIFACT', 'library/app', image, 'v1');
  for (const wrong of ['', 'x', `Bearer ${SECRET}`, `${SECRET} `.trimEnd().toLowerCase()])
    t.equal((await here.send(push, wrong)).status, 401, `"${wrong}"`);
  t.equal((await here.send({ type: 'PULL_ARTIFACT', event_data: {} })).status, 202);
  t.equal((await here.send({ type: 'PUSH_ARTIFACT' })).status, 400);
  const foreign = {
    ...push,
    event_data: {
      resources: [{ digest: image.manifest.digest, resource_url: 'evil.test/library/app:v1' }],
      repository: { repo_full_name: 'library/app' },
    },
  };
  const answer = await here.send(foreign);
  t.equal(answer.status, 404);
  t.match(answer.text, /no upstream answers to evil\.test/);
});

t.test('a webhook with 100 resources is taken at once, one with more is refused with 400', async (t) => {
  const here = await setUp(t);
  const image = makeImage({ layers: [KIB], seed: 'many' });
  here.harbor.push('library/app', image, 'v0');
  const many = (count: number): object => ({
    type: 'PUSH_ARTIFACT',
    occur_at: ++stamp,
    event_data: {
      resources: [...Array(count).keys()].map((at) => ({
        digest: image.manifest.digest,
        tag: `v${at}`,
        resource_url: `harbor.test/library/app:v${at}`,
      })),
      repository: { name: 'app', namespace: 'library', repo_full_name: 'library/app' },
    },
  });
  const taken = await here.send(many(100));
  t.equal(taken.status, 202, taken.text);
  t.same(taken.json, { events: 100 });
  const refused = await here.send(many(101));
  t.equal(refused.status, 400);
  t.match(refused.text, /101 entries; at most 100 are taken/);
});

t.test('webhooks are off unless they are configured', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 1,
    proxies: 1,
    agents: 0,
    trackers: 0,
  });
  t.equal((await call('POST', `${cluster.proxyUrls[0]}/webhooks/harbor`, {})).status, 404);
});
