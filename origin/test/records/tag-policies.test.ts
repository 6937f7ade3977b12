import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import {
  MAX_HISTORY,
  moved,
  recordOf,
  restored,
  type TagState,
  takenAway,
} from '../../src/records/core/tag-record.ts';
import { TagPolicies } from '../../src/upstream/core/tag-policy.ts';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { startPullThrough } from '../support/pull-through.ts';

type Answer = Awaited<ReturnType<TestCluster['call']>>;

function bytesOf(text: string): Buffer {
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [], annotations: { text } }),
  );
}

async function push(
  c: TestCluster,
  id: string,
  repository: string,
  tag: string,
  text: string,
  upstream: string,
): Promise<Answer> {
  return await c.put(
    id,
    `/v1/manifests?upstream=${upstream}&repository=${repository}&reference=${tag}`,
    bytesOf(text),
    { 'content-type': OCI_MANIFEST },
  );
}

async function ask(c: TestCluster, id: string, path: string): Promise<Answer> {
  return await c.get(id, `/v1/${path}`);
}

t.test('the first override that matches wins, else the upstream’s own', async (t) => {
  const policies = new TagPolicies({
    mode: 'none',
    tags: {
      ttl: 60,
      'stale-limit': 600,
      overrides: [
        { repositories: ['team/*'], tags: ['latest'], policy: 'mutable' },
        { repositories: ['team/**', 'library/*'], policy: 'immutable', ttl: 5 },
        { repositories: ['**'], tags: ['pin-*'], policy: 'pinned', 'stale-limit': 7 },
      ],
    },
  });
  t.match(policies.rulesOf('team/a', 'latest'), { policy: 'mutable', ttlMs: 60, staleLimitMs: 600 });
  t.match(policies.rulesOf('team/a', 'v1'), { policy: 'immutable', ttlMs: 5, staleLimitMs: 600 });
  t.match(policies.rulesOf('team/a/b', 'latest'), { policy: 'immutable' });
  t.match(policies.rulesOf('library/x', 'pin-1'), { policy: 'immutable' });
  t.match(policies.rulesOf('other', 'pin-1'), { policy: 'pinned', ttlMs: 60, staleLimitMs: 7 });
  t.match(policies.rulesOf('other', 'v1'), { policy: 'mutable', ttlMs: 60 });
  t.equal(policies.mayKeep('library/x'), true);
  t.equal(policies.mayKeep('other'), false);
  const own = new TagPolicies({
    mode: 'none',
    tags: { policy: 'immutable', ttl: 60, 'stale-limit': 600, overrides: [] },
  });
  t.equal(own.mayKeep('other'), true);
});

t.test('the history of a tag: moves, no confirmations, bounded; old registers are read', async (t) => {
  const [a, b] = [digestOf(Buffer.from('a')), digestOf(Buffer.from('b'))];
  const move = (digest: typeof a, atMs: number) => ({ digest, atMs, how: 'push', by: 'o1' }) as const;
  let state: TagState | undefined = moved(undefined, move(a, 1));
  state = moved(state, move(a, 2));
  t.same(state, { digest: a, checkedAtMs: 2, history: [move(a, 1)] });
  state = takenAway(moved(state, move(b, 3)), { atMs: 4, how: 'delete', by: 'o2' });
  t.same(
    state?.history?.map(({ digest, how }) => [digest, how]),
    [
      [a, 'push'],
      [b, 'push'],
      [undefined, 'delete'],
    ],
  );
  t.equal(recordOf(state), undefined);
  t.equal(takenAway(state, { atMs: 5, how: 'delete', by: 'o2' }), state, 'not there twice is no move');
  for (let at = 0; at < 2 * MAX_HISTORY; at++) state = moved(state, move(at % 2 === 0 ? a : b, 10 + at));
  t.equal(state?.history?.length, MAX_HISTORY);
  t.equal(state?.history?.at(-1)?.atMs, 10 + 2 * MAX_HISTORY - 1);
  const old: TagState = { digest: a, checkedAtMs: 1 };
  t.same(recordOf(old), { digest: a, checkedAtMs: 1 });
  t.same(moved(old, move(b, 2)).history, [{ digest: a, atMs: 1, how: 'push', by: 'unknown' }, move(b, 2)]);
  const newer = moved(old, move(b, 9));
  t.equal(restored(undefined, newer), newer);
  t.equal(restored(newer, old), newer, 'nothing newer is overwritten');
  t.equal(restored(old, newer), newer);
});

t.test('overrides hold across the cluster; history and rollback', async (t) => {
  const overrides = [
    { repositories: ['team/**'], tags: ['latest'], policy: 'mutable' },
    { repositories: ['team/**'], policy: 'immutable' },
  ];
  const c = await startCluster(t, {
    origins: 3,
    upstreams: [{ name: 'hub', mode: 'none', tags: { overrides } }],
  });
  const at = (tag: string): string => `upstream=hub&repository=team/app&tag=${tag}`;
  const pushHub = async (id: string, tag: string, text: string): Promise<Answer> =>
    await push(c, id, 'team/app', tag, text, 'hub');
  t.equal((await pushHub('o1', 'v1', 'one')).status, 201);
  t.equal((await pushHub('o2', 'v1', 'two')).headers['sepia-error'], 'TAG_IMMUTABLE');
  for (const [id, text] of [
    ['o1', 'one'],
    ['o2', 'two'],
    ['o3', 'two'],
    ['o3', 'three'],
  ] as const)
    t.equal((await pushHub(id, 'latest', text)).status, 201);
  const history = async (
    id: string,
  ): Promise<{ digest?: string; history: { digest?: string; how: string; by: string }[] }> =>
    JSON.parse((await ask(c, id, `tags/history?${at('latest')}`)).bytes.toString());
  const [one, two, three] = ['one', 'two', 'three'].map((text) => digestOf(bytesOf(text)));
  t.match(await history('o1'), {
    digest: three,
    policy: 'mutable',
    history: [
      { digest: one, how: 'push', by: 'o1' },
      { digest: two, how: 'push', by: 'o2' },
      { digest: three, how: 'push', by: 'o3' },
    ],
  });
  const set = async (tag: string, digest: unknown): Promise<Answer> =>
    await c.put('o2', `/v1/tags?${at(tag)}`, JSON.stringify({ digest }));
  t.equal((await set('latest', one)).status, 200);
  t.match(
    (await ask(c, 'o3', `manifests?upstream=hub&repository=team/app&reference=latest`)).bytes.toString(),
    /one/,
  );
  t.match((await history('o3')).history.at(-1), { digest: one, how: 'set', by: 'o2' });
  t.equal((await set('v1', two)).headers['sepia-error'], 'TAG_IMMUTABLE');
  t.equal((await set('latest', digestOf(Buffer.from('nowhere')))).headers['sepia-error'], 'MANIFEST_UNKNOWN');
  t.equal((await set('latest', 'x')).headers['sepia-error'], 'REQUEST_INVALID');
  t.equal((await ask(c, 'o1', `tags/history?${at('never')}`)).headers['sepia-error'], 'TAG_UNKNOWN');
  await c.stop('o1');
  await c.start('o1');
  t.equal((await history('o1')).history.length, 4, 'kept over a restart');
});

t.test('pinned: the upstream’s move and deletion change nothing, an operator’s act does', async (t) => {
  const overrides = [{ repositories: ['lib/*'], tags: ['v*'], policy: 'pinned' }];
  const tags = { ttl: '1ms', overrides };
  const { upstream, c } = await startPullThrough(t, 3, { tags });
  const read = async (id: string, reference: string): Promise<Answer> =>
    await ask(c, id, `manifests?upstream=hub&repository=lib/x&reference=${reference}`);
  const document = (text: string): object => JSON.parse(bytesOf(text).toString()) as object;
  const first = upstream.addManifest('lib/x', 'v1', document('one'), OCI_MANIFEST);
  upstream.addManifest('lib/x', 'edge', document('one'), OCI_MANIFEST);
  t.equal((await read('o1', 'v1')).headers['docker-content-digest'], first);
  t.equal((await read('o1', 'edge')).headers['docker-content-digest'], first);
  const second = upstream.addManifest('lib/x', 'v1', document('two'), OCI_MANIFEST);
  upstream.addManifest('lib/x', 'edge', document('two'), OCI_MANIFEST);
  for (const id of c.ids) t.equal((await read(id, 'v1')).headers['docker-content-digest'], first, id);
  t.equal((await read('o2', 'edge')).headers['docker-content-digest'], second, 'the others follow');
  upstream.manifests.delete('lib/x:v1');
  t.equal((await read('o3', 'v1')).headers['docker-content-digest'], first);
  const set = async (tag: string): Promise<Answer> =>
    await c.put(
      'o1',
      `/v1/tags?upstream=hub&repository=lib/x&tag=${tag}`,
      JSON.stringify({ digest: second }),
    );
  t.equal((await set('v1')).status, 200);
  t.equal((await read('o3', 'v1')).headers['docker-content-digest'], second);
  t.match((await set('edge')).bytes.toString(), /policy revalidate follows the upstream/);
});

t.test('stale limits go by repository', async (t) => {
  const overrides = [
    { repositories: ['strict/**'], policy: 'revalidate', 'stale-limit': '0s' },
    { repositories: ['fresh/**'], policy: 'mutable' },
  ];
  const { upstream, c } = await startPullThrough(t, 1, { tags: { ttl: '1ms', overrides } });
  const read = async (repository: string): Promise<Answer> =>
    await ask(c, 'o1', `manifests?upstream=hub&repository=${repository}&reference=v1`);
  for (const repository of ['strict/x', 'fresh/x', 'other/x']) {
    upstream.addManifest(repository, 'v1', { schemaVersion: 2, layers: [] }, OCI_MANIFEST);
    t.equal((await read(repository)).status, 200);
  }
  const asked = upstream.requests.length;
  t.equal((await read('fresh/x')).status, 200);
  t.ok(upstream.requests.length > asked, 'mutable asks at every request');
  upstream.down = true;
  await until(async () => (await read('strict/x')).status === 503, 'a stale limit of 0 serves nothing stale');
  const stale = await read('other/x');
  t.equal(stale.status, 200);
  t.match(stale.headers['sepia-stale'], /^\d+$/);
});

t.test('a tag that is gone upstream is no longer listed, its history stays', async (t) => {
  const { upstream, c } = await startPullThrough(t, 3, { tags: { ttl: '1ms' } });
  upstream.addManifest('lib/x', 'v1', { schemaVersion: 2, layers: [] }, OCI_MANIFEST);
  const read = async (): Promise<number> =>
    (await ask(c, 'o1', 'manifests?upstream=hub&repository=lib/x&reference=v1')).status;
  const listed = async (): Promise<string[]> => {
    const lists = await Promise.all(
      c.ids.map(async (id) => await ask(c, id, 'taglists?upstream=hub&repository=lib/x')),
    );
    return lists
      .flatMap(
        (one) =>
          (JSON.parse(one.bytes.toString()) as { entries: { tag: string; digest?: string }[] }).entries,
      )
      .filter(({ digest }) => digest !== undefined)
      .map(({ tag }) => tag);
  };
  t.equal(await read(), 200);
  t.ok((await listed()).length >= 2);
  upstream.manifests.delete('lib/x:v1');
  t.equal(await read(), 404);
  await until(async () => (await listed()).length === 0, 'no owner lists it');
  const history = await ask(c, 'o2', 'tags/history?upstream=hub&repository=lib/x&tag=v1');
  t.match(JSON.parse(history.bytes.toString()), { history: [{ how: 'revalidate' }, { how: 'delete' }] });
});

t.test('mode none: a push is an explicit act and moves a pinned tag', async (t) => {
  const overrides = [{ repositories: ['**'], policy: 'pinned' }];
  const c = await startCluster(t, {
    origins: 1,
    upstreams: [{ name: 'own', mode: 'none', tags: { overrides } }],
  });
  for (const text of ['one', 'two']) t.equal((await push(c, 'o1', 'a/b', 'v1', text, 'own')).status, 201);
  const got = await ask(c, 'o1', 'manifests?upstream=own&repository=a/b&reference=v1');
  t.match(got.bytes.toString(), /two/);
});
