import {
  copyFileSync,
  existsSync,
  readFileSync,
  realpathSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t, { type Test } from 'tap';
import { startCluster, type TestCluster } from '../../../origin/test/support/cluster.ts';
import { change, memberOf, untilEpoch } from '../../../origin/test/support/ring.ts';
import { backup } from '../../src/backup/backup.ts';
import { BackupWriter, readFrames } from '../../src/backup/backup-file.ts';
import { restore } from '../../src/backup/restore.ts';
import { Operator } from '../../src/operator/operator.ts';
import { onSync } from '../support/on-sync.ts';

const REPOSITORIES = Array.from({ length: 12 }, (_, at) => `team/app${at}`);
const TAGS = ['v1', 'v2', 'latest'];
const quiet = (): void => undefined;

function operatorOf(t: Test, c: TestCluster): Operator {
  const dir = dirname(c.dataOf('o1'));
  const operator = Operator.open({
    cluster: '',
    clusterDocument: join(dir, 'cluster.yaml'),
    clusterKeyFile: join(dir, 'key'),
  });
  t.teardown(async () => await operator.close());
  return operator;
}

async function push(c: TestCluster, repository: string, tag: string, text: string): Promise<void> {
  const body = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [], annotations: { text } };
  const answer = await c.call('o1', {
    method: 'PUT',
    path: `/v1/manifests?upstream=local&repository=${repository}&reference=${tag}`,
    body: Buffer.from(JSON.stringify(body)),
    headers: { 'content-type': OCI_MANIFEST },
  });
  if (answer.status !== 201) throw new Error(answer.bytes.toString());
}

/** Every tag's history and, where there are blobs, what it reads. */
async function state(c: TestCluster, path: 'manifests' | 'history'): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const repository of REPOSITORIES)
    for (const tag of TAGS) {
      const query = `upstream=local&repository=${repository}`;
      const ask =
        path === 'manifests' ? `manifests?${query}&reference=${tag}` : `tags/history?${query}&tag=${tag}`;
      const answer = await c.call(c.ids.at(-1)!, { method: 'GET', path: `/v1/${ask}` });
      found[`${repository}:${tag}`] = answer.status === 200 ? answer.bytes.toString() : `${answer.status}`;
    }
  return found;
}

const FILE = join(t.testdir(), 'records.backup');
let histories: Record<string, string> = {};

t.test('all databases of seven origins are lost: after the restore every tag reads the same', async (t) => {
  const c = await startCluster(t, { origins: 7 });
  for (const repository of REPOSITORIES)
    for (const tag of TAGS)
      for (const text of tag === 'latest' ? ['one', 'two'] : [tag]) await push(c, repository, tag, text);
  const before = await state(c, 'manifests');
  histories = await state(c, 'history');
  const operator = operatorOf(t, c);
  const made = await backup(operator, FILE, quiet);
  t.match(made, { counts: { r1: REPOSITORIES.length * TAGS.length, n1: REPOSITORIES.length }, missing: [] });
  for (const id of c.ids) {
    await c.stop(id);
    rmSync(join(c.dataOf(id), 'v1', 'db'), { recursive: true });
  }
  for (const id of c.ids) await c.start(id, { acceptLoss: true });
  t.equal((await state(c, 'history'))['team/app0:v1'], '404', 'the records are gone');
  t.same((await restore(operator, FILE, quiet)).counts, made.counts);
  t.same(await state(c, 'manifests'), before);
  t.same(await state(c, 'history'), histories, 'histories as well');
  await push(c, 'team/app0', 'latest', 'later');
  await restore(operator, FILE, quiet);
  const read = await c.call('o3', {
    method: 'GET',
    path: '/v1/manifests?upstream=local&repository=team/app0&reference=latest',
  });
  t.match(read.bytes.toString(), /later/, 'nothing newer is overwritten');
  await c.stop('o7');
  t.same((await backup(operator, `${FILE}.two`, quiet)).missing, ['o7'], 'one origin may be away');
  t.equal([...readFrames(`${FILE}.two`)].at(-1)?.frame.type, 'end');
  await c.stop('o6');
  await t.rejects(backup(operator, `${FILE}.three`, quiet), { code: 'QUORUM_LOST' });
  t.notOk(existsSync(`${FILE}.three`));
});

t.test('a backup is on the disk when it is made, its name too', async (t) => {
  const file = join(t.testdir(), 'records.backup');
  const operator = operatorOf(t, await startCluster(t, { origins: 1 }));
  const synced: object[] = [];
  onSync(t, (path) => void synced.push({ path, isNamed: existsSync(file) }));
  await backup(operator, file, quiet);
  t.same(synced, [
    { path: join(realpathSync(dirname(file)), 'records.backup.partial'), isNamed: false },
    { path: realpathSync(dirname(file)), isNamed: true },
  ]);
});

t.test('a backup of seven origins goes into three', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  await restore(operatorOf(t, c), FILE, quiet);
  t.same(await state(c, 'history'), histories);
});

t.test('a restore goes by the ring as it is, also if that changed since it was asked', async (t) => {
  const c = await startCluster(t, { origins: 4, ring: 3 });
  const operator = operatorOf(t, c);
  await operator.follow();
  await c.start('o4');
  await change(c, 'o1', 0, { action: 'add', members: [memberOf(c, 'o4')] });
  await untilEpoch(c, 2);
  await restore(operator, FILE, quiet);
  t.equal(operator.cluster.epoch, 2);
  t.same(await state(c, 'history'), histories);
});

t.test('a backup that was cut goes on behind its last sound part', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  const operator = operatorOf(t, c);
  await restore(operator, FILE, quiet);
  const whole = join(dirname(c.dataOf('o1')), 'whole');
  const { counts } = await backup(operator, whole, quiet);
  const again = `${whole}.again`;
  copyFileSync(whole, `${again}.partial`);
  const ends = [...readFrames(whole)].map((one) => one.endOffset);
  truncateSync(`${again}.partial`, ends[2]! + 5);
  const resumed = await backup(operator, again, quiet);
  t.match(resumed, { isResumed: true, counts });
  const recordsOf = (file: string): unknown[] =>
    [...readFrames(file)].flatMap(({ frame }) => (frame.type === 'records' ? frame.entries : []));
  t.same(recordsOf(again), recordsOf(whole));

  const [head, ...parts] = [...readFrames(whole)].map((one) => one.frame);
  if (head?.type !== 'head') throw new Error('no head');
  const others = [
    { ...head, createdAtMs: Date.now() - 7 * 3_600_000 },
    { ...head, createdAtMs: Date.now() + 7 * 3_600_000 },
    { ...head, upstreams: [...head.upstreams, 'elsewhere'] },
  ];
  for (const other of others) {
    const writer = BackupWriter.create(`${again}.partial`);
    for (const frame of [other, ...parts.slice(0, 2)]) writer.write(frame);
    writer.close();
    t.match(await backup(operator, again, quiet), { isResumed: false, counts }, 'not of now and here');
    t.same(recordsOf(again), recordsOf(whole));
  }
});

t.test('a damaged or cut file is refused with the offset before anything is put back', async (t) => {
  const c = await startCluster(t, { origins: 1 });
  const operator = operatorOf(t, c);
  const bytes = readFileSync(FILE);
  const second = [...readFrames(FILE)][0]!.endOffset;
  const file = `${FILE}.bad`;
  const refused = async (made: Buffer, message: RegExp, code = 'DISK_CORRUPT'): Promise<void> => {
    writeFileSync(file, made);
    await t.rejects(restore(operator, file, quiet), { code, message });
  };
  const flipped = Buffer.from(bytes);
  flipped[second + 50]! ^= 1;
  await refused(flipped, new RegExp(`at byte ${second} does not match its checksum`));
  await refused(bytes.subarray(0, bytes.length - 3), /at byte \d+ is cut/);
  await refused(bytes.subarray(0, second), new RegExp(`at byte ${second} is cut`));
  await refused(Buffer.concat([bytes, Buffer.from('x')]), /comes after the end/);
  await refused(Buffer.from('SOMETHINGELSE'), /is not a backup/, 'DISK_FORMAT');
  await t.rejects(restore(operator, `${file}.nowhere`, quiet), { code: 'REQUEST_INVALID' });
  t.equal((await state(c, 'history'))['team/app0:v1'], '404');
});
