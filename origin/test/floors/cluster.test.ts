import { cpSync, rmSync } from 'node:fs';
import { digestOf } from '@sepia/base/digest';
import { shardKey } from '@sepia/cluster/cluster';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { untilNothingOwed } from '../support/images.ts';
import { change, memberOf, untilEpoch } from '../support/ring.ts';

const SOON = { config: 'compare-every: 1s', tombstonesMs: 2_000 };
const REPOSITORY = 'team/app';
/** As many as make a floor worth while, and some. */
const DELETES = 120;
const LIVE = digestOf(Buffer.from('live'));
const DEAD = Array.from({ length: DELETES }, (_, index) => digestOf(Buffer.from(`dead ${index}`)));

interface Record {
  readonly key: readonly string[];
  readonly atMs: number;
  readonly value?: object;
}

interface Page {
  readonly entries: readonly Record[];
  readonly agreedMs?: number;
}

const nameOf = (repository: string): string => `upstream=local&repository=${repository}`;

async function jsonOf<T>(
  c: TestCluster,
  id: string,
  method: 'GET' | 'POST' | 'PUT',
  path: string,
  json?: object,
) {
  const headers = { 'content-type': 'application/json' };
  const body = json === undefined ? {} : { body: JSON.stringify(json), headers };
  const answer = await c.call(id, { method, path, ...body });
  return { status: answer.status, json: JSON.parse(answer.bytes.toString() || '{}') as T };
}

/** Takes records to one owner, as a writer's message does. */
async function put(c: TestCluster, id: string, repository: string, records: readonly Record[]) {
  return await jsonOf<{ behindMs?: number }>(c, id, 'PUT', `/v1/records/links?${nameOf(repository)}`, {
    records,
  });
}

/** What one origin itself has of a repository. */
async function ownOf(c: TestCluster, id: string, repository: string): Promise<Page> {
  const path = `/v1/records/links?${nameOf(repository)}&prefix=${encodeURIComponent('[]')}`;
  return (await jsonOf<Page>(c, id, 'GET', path)).json;
}

const ownersOf = (c: TestCluster, repository: string): readonly string[] =>
  c.cluster.origins(shardKey('local', repository)).owners;

/** A live link and many that are there at `atMs`, on all owners. */
async function fill(c: TestCluster, repository: string, atMs: number): Promise<void> {
  const records = [LIVE, ...DEAD].map((digest) => ({ key: [digest], atMs, value: { sizeBytes: 1 } }));
  for (const id of ownersOf(c, repository)) await put(c, id, repository, records);
}

async function deleteAll(c: TestCluster, ids: readonly string[], repository: string, atMs: number) {
  for (const id of ids)
    await put(
      c,
      id,
      repository,
      DEAD.map((digest) => ({ key: [digest], atMs })),
    );
}

/** All owners have the live link alone, no tombstone, and a floor. */
async function untilGone(c: TestCluster, repository: string): Promise<void> {
  let seen = '';
  await until(
    async () => {
      for (const id of ownersOf(c, repository)) {
        const { entries = [], agreedMs = 0 } = await ownOf(c, id, repository);
        seen = `${id} has ${entries.length} and the floor ${agreedMs}`;
        if (entries.length !== 1 || entries[0]!.key[0] !== LIVE || agreedMs === 0) return false;
      }
      return true;
    },
    'deletes are gone everywhere, and nothing else',
    60_000,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${seen}`);
  });
}

t.test('old deletes go from all disks, and a disk that is set back brings none back', async (t) => {
  const c = await startCluster(t, { origins: 3, ...SOON });
  const atMs = Date.now() - 20_000;
  await fill(c, REPOSITORY, atMs);
  await untilNothingOwed(c);
  await c.stop('o1');
  const snapshot = `${c.dataOf('o1')}-snapshot`;
  cpSync(c.dataOf('o1'), snapshot, { recursive: true });
  await c.start('o1');
  await deleteAll(c, c.ids, REPOSITORY, atMs + 1_000);
  await untilGone(c, REPOSITORY);
  const { json } = await put(c, 'o2', REPOSITORY, [{ key: [DEAD[0]!], atMs: atMs + 500, value: {} }]);
  t.ok(json.behindMs !== undefined && json.behindMs > atMs, 'a write of an old clock must take a later one');
  await c.stop('o1');
  rmSync(c.dataOf('o1'), { recursive: true });
  cpSync(snapshot, c.dataOf('o1'), { recursive: true });
  await c.start('o1');
  await c.origins.get('o1')!.whenSettled();
  t.equal((await ownOf(c, 'o1', REPOSITORY)).entries.length, 1, 'it took the floor over before it counts');
  await untilNothingOwed(c);
  await untilGone(c, REPOSITORY);
});

t.test('a disk that is lost gets floors with the entries, and old messages stay refused', async (t) => {
  const c = await startCluster(t, { origins: 3, ...SOON });
  const atMs = Date.now() - 20_000;
  await fill(c, REPOSITORY, atMs);
  await deleteAll(c, c.ids, REPOSITORY, atMs + 1_000);
  await untilGone(c, REPOSITORY);
  for (const id of ['o3', 'o1']) {
    await c.stop(id);
    rmSync(c.dataOf(id), { recursive: true });
    await c.start(id);
    await c.origins.get(id)!.whenSettled();
    await untilNothingOwed(c);
  }
  await untilGone(c, REPOSITORY);
  for (const id of c.ids) {
    const { json } = await put(c, id, REPOSITORY, [{ key: [DEAD[1]!], atMs: atMs + 500, value: {} }]);
    t.ok(json.behindMs !== undefined, id);
  }
});

t.test('a member that is added meanwhile takes floors over with what is above them', async (t) => {
  const c = await startCluster(t, { origins: 4, ring: 3, ...SOON });
  const repositories = ['team/a', 'team/b', 'team/c', 'team/d', 'team/e', 'team/f'];
  const atMs = Date.now() - 20_000;
  c.cluster.follow({ ...c.cluster.membership, epoch: 0, origins: c.cluster.membership.origins.slice(0, 3) });
  for (const repository of repositories) {
    await fill(c, repository, atMs);
    await deleteAll(c, ownersOf(c, repository), repository, atMs + 1_000);
  }
  await untilGone(c, repositories[0]!);
  await c.start('o4');
  await change(c, 'o1', 0, { action: 'add', members: [memberOf(c, 'o4')] });
  await untilEpoch(c, 2);
  const moved = repositories.filter((one) => ownersOf(c, one).includes('o4'));
  t.ok(moved.length > 0, 'o4 owns some of them');
  for (const repository of repositories) await untilGone(c, repository);
  await untilNothingOwed(c);
});

t.test('a start between promise and agreement: what was told before it counts no more', async (t) => {
  const c = await startCluster(t, { origins: 3, config: 'compare-every: 1s' });
  const atMs = Date.now() - 20_000;
  await fill(c, REPOSITORY, atMs);
  await deleteAll(c, c.ids, REPOSITORY, atMs + 1_000);
  const floorMs = atMs + 5_000;
  const promise = async (id: string) =>
    await jsonOf<{ digest: string }>(c, id, 'POST', `/v1/floors/promise?${nameOf(REPOSITORY)}`, {
      atMs: floorMs,
      epoch: 0,
    });
  const generationOf = async (id: string): Promise<number> =>
    (await jsonOf<{ generation: number }>(c, id, 'GET', '/v1/standing')).json.generation;
  const told = new Map<string, { digest: string; generation: number }>();
  for (const id of c.ids) told.set(id, { ...(await promise(id)).json, generation: await generationOf(id) });
  t.equal(new Set([...told.values()].map(({ digest }) => digest)).size, 1, 'all have the same');
  const crashed = `${c.dataOf('o2')}-crashed`;
  cpSync(c.dataOf('o2'), crashed, { recursive: true });
  await c.stop('o2');
  rmSync(c.dataOf('o2'), { recursive: true });
  cpSync(crashed, c.dataOf('o2'), { recursive: true });
  await c.start('o2');
  await c.origins.get('o2')!.whenSettled();
  const agree = async (id: string) =>
    await jsonOf(c, id, 'POST', `/v1/floors/agree?${nameOf(REPOSITORY)}`, {
      atMs: floorMs,
      epoch: 0,
      generation: told.get(id)!.generation,
    });
  t.equal((await agree('o2')).status, 503, 'another generation told it');
  const { json } = await put(c, 'o2', REPOSITORY, [{ key: [DEAD[2]!], atMs: floorMs, value: {} }]);
  t.ok(json.behindMs !== undefined, 'its promise outlived it');
  t.equal((await agree('o1')).status, 200);
  await untilGone(c, REPOSITORY);
  t.same((await ownOf(c, 'o3', REPOSITORY)).agreedMs, floorMs, 'who was not told took it over');
});

t.test('what is no floor is refused', async (t) => {
  const c = await startCluster(t, { origins: 1 });
  const post = async (path: string, json: object): Promise<number> =>
    (await jsonOf(c, 'o1', 'POST', `/v1/floors/${path}`, json)).status;
  const name = nameOf(REPOSITORY);
  const good = { atMs: 1, epoch: 0 };
  for (const wrong of [
    { ...good, atMs: -1 },
    { ...good, atMs: 0.5 },
    { ...good, atMs: '1' },
    { ...good, atMs: Date.now() + 3_600_000 },
    { atMs: 1 },
  ])
    t.equal(await post(`promise?${name}`, wrong), 400, JSON.stringify(wrong));
  t.equal(await post(`promise?${name}`, good), 200);
  t.equal(await post(`agree?${name}`, { ...good, generation: 1 }), 503, 'nobody told in that generation');
  t.equal(await post(`agree?${name}`, { ...good, generation: 'x' }), 400);
  t.equal(await post('list', { how: 'handover', buckets: 'all' }), 400);
  t.equal(await post('list', { how: 'whole', buckets: [] }), 400);
  t.equal(await post(`page?${name}`, { how: 'repair', space: 'r1' }), 400);
  t.equal(await post(`page?upstream=local`, { how: 'repair', space: 'l1' }), 400);
  t.equal(await post(`page?${name}`, { how: 'repair', space: 'l1' }), 200);
});
