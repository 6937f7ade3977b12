import { spawn } from 'node:child_process';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import { failingSyncs } from '@sepia/test-support/failing-syncs';
import t, { type Test } from 'tap';
import { DataFolder } from '../src/data-folder.ts';

const log = silentLogger();
const open = (dir: string, id?: string): Promise<DataFolder> =>
  DataFolder.open({ log }, { dir, ...(id === undefined ? {} : { id }) });

/** A process that holds the folder; `kill` ends it with SIGKILL. */
async function holder(t: Test, dir: string): Promise<{ kill: () => Promise<void> }> {
  const script = `
    const { DataFolder } = await import(${JSON.stringify(new URL('../src/data-folder.ts', import.meta.url).href)});
    await DataFolder.open({ log: { info() {}, warn() {}, debug() {} } }, { dir: process.argv[1] });
    console.log('held');
    setInterval(() => {}, 1e6);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await gone;
  };
  t.teardown(kill);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return { kill };
}

t.test('the first start stores the id, later ones keep it', async (t) => {
  const dir = join(t.testdir(), 'data');
  const first = await open(dir, 'origin-1');
  t.match(
    { id: first.id, lastStop: first.lastStop, dir: first.dir },
    { id: 'origin-1', lastStop: 'first-start', dir: join(dir, 'v1') },
  );
  await first.db.put('k', 'v');
  await first.close();
  await first.close();
  t.equal(readFileSync(join(dir, 'v1/id'), 'utf8').trim(), 'origin-1');
  const second = await open(dir);
  t.match({ id: second.id, lastStop: second.lastStop }, { id: 'origin-1', lastStop: 'clean' });
  t.equal(await second.db.get('k'), 'v');
  await second.close();
  await t.rejects(open(dir, 'origin-2'), {
    code: 'START_FAILED',
    message: /`id`.*origin-2.*origin-1.*set `id: origin-1`/,
  });
  await (await open(dir, 'origin-1')).close();
});

t.test('without a configured id a random one is kept', async (t) => {
  const dir = t.testdir();
  const first = await open(dir);
  await first.close();
  t.match(first.id, /^[0-9a-f]{16}$/);
  const second = await open(dir);
  t.equal(second.id, first.id);
  await second.close();
  await t.rejects(open(dir, '../x'), { code: 'CONFIG_INVALID' });
});

t.test('a held lock stops the start, a killed holder does not', async (t) => {
  const dir = t.testdir();
  const { kill } = await holder(t, dir);
  await t.rejects(open(dir), { code: 'START_FAILED', message: /in use by another process/ });
  await kill();
  const folder = await open(dir);
  t.equal(folder.lastStop, 'killed');
  await t.rejects(open(dir), { code: 'START_FAILED' }, 'also against this process itself');
  await folder.close();
});

t.test('an unclean stop before another boot is told apart', async (t) => {
  const dir = t.testdir();
  await (await open(dir)).close();
  for (const run of ['{"v":1,"bootId":"another","clean":false}', 'torn{', 'null']) {
    writeFileSync(join(dir, 'v1/run'), run);
    const folder = await open(dir);
    t.equal(folder.lastStop, 'reboot');
    await folder.close();
  }
});

t.test('a stop on a disk that fails only leaves the mark of a clean one out', async (t) => {
  const dir = t.testdir();
  const folder = await open(dir);
  const failing = await failingSyncs(t);
  await folder.close();
  failing.end();
  const next = await open(dir);
  t.equal(next.lastStop, 'killed');
  await next.close();
});

t.test('a folder of a newer format is refused by name', async (t) => {
  const dir = t.testdir();
  mkdirSync(join(dir, 'v2'));
  await t.rejects(open(dir), { code: 'DISK_FORMAT', message: /v2/ });
});

t.test('a log that cannot be read stops the start: what it holds was acknowledged, and stays', async (t) => {
  const dir = t.testdir();
  const first = await open(dir, 'origin-1');
  await first.db.put('k', 'v');
  await first.close();
  const db = join(dir, 'v1/db');
  const log = join(db, readdirSync(db).find((name) => name.endsWith('.log'))!);
  renameSync(log, `${log}.kept`);
  // Whoever opens it is refused, root too.
  symlinkSync(log, log);
  await t.rejects(open(dir, 'origin-1'), {
    code: 'START_FAILED',
    message:
      /^database .*v1\/db does not open .* its log \d+\.log, with what was acknowledged last, cannot be read: /,
  });
  unlinkSync(log);
  renameSync(`${log}.kept`, log);
  const second = await open(dir, 'origin-1');
  t.teardown(() => second.close());
  t.equal(await second.db.get('k'), 'v');
});

t.test('a folder is of one role, whatever its id', async (t) => {
  const dir = t.testdir();
  const folderOf = async (role: 'origin' | 'agent', id?: string) =>
    await DataFolder.open({ log }, { dir, role, ...(id === undefined ? {} : { id }) });
  await (await folderOf('origin', 'origin-1')).close();
  const refused = { code: 'START_FAILED', message: /belongs to another role \(origin\)/ };
  await t.rejects(folderOf('agent'), refused, 'one without an id would take the other for its own');
  await (await folderOf('origin', 'origin-1')).close();

  // As versions without roles left it.
  rmSync(join(dir, 'v1/role'));
  writeFileSync(join(dir, 'v1/standing'), '{}');
  await t.rejects(folderOf('agent'), refused);
  await (await folderOf('origin', 'origin-1')).close();
  t.equal(readFileSync(join(dir, 'v1/role'), 'utf8'), 'origin\n');
});

t.test('who is refused for its id gives no role to a folder that has none yet', async (t) => {
  const dir = t.testdir();
  await (await open(dir, 'tracker-1')).close();
  const wrong = DataFolder.open({ log }, { dir, role: 'accelerator', id: 'accelerator-1' });
  await t.rejects(wrong, { code: 'START_FAILED', message: /belongs to "tracker-1"/ });
  await (await DataFolder.open({ log }, { dir, role: 'tracker', id: 'tracker-1' })).close();
});
