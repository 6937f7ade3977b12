import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { CodedError } from '../src/errors.ts';
import { reloadable } from '../src/process.ts';
import { sourceUrl, startProgram } from './support/child-service.ts';

t.test('a reload says what is in force and what counts after a restart', async (t) => {
  let config: { id: string; limits: { open: number; cache: number } } = {
    id: 'a',
    limits: { open: 1, cache: 1 },
  };
  const seen: unknown[] = [];
  let isStopped = false;
  const service = await reloadable(
    {
      load: () => config,
      check: () => undefined,
      start: async () => ({
        adjust: (next) => void seen.push(next),
        stop: async () => {
          isStopped = true;
        },
      }),
    },
    ['limits.open'],
  );
  t.equal(await service.reload?.(), 'config reloaded; in force: nothing new');
  config = { id: 'b', limits: { open: 2, cache: 2 } };
  t.equal(
    await service.reload?.(),
    'config reloaded; in force: limits.open; after a restart: id, limits.cache',
  );
  t.equal(seen.at(-1), config);
  t.equal(
    await service.reload?.(),
    'config reloaded; in force: nothing new; after a restart: id, limits.cache',
    'what was not restarted since is still to be',
  );
  config = { id: 'a', limits: { open: 2, cache: 1 } };
  t.equal(await service.reload?.(), 'config reloaded; in force: nothing new', 'as it was started with');
  await service.stop();
  t.ok(isStopped);
});

t.test('a file that is read at a start alone is named when another text stands in it', async (t) => {
  const dir = t.testdir({ document: 'one', key: '01' });
  const files = { 'cluster-document': join(dir, 'document'), 'cluster-key-file': join(dir, 'key') };
  const service = await reloadable(
    {
      load: () => ({ ...files, 'node-secret-file': join(dir, 'none'), level: 1 }),
      check: () => undefined,
      start: async () => ({ adjust: () => undefined, stop: async () => undefined }),
    },
    ['level'],
  );
  t.equal(await service.reload?.(), 'config reloaded; in force: nothing new');
  writeFileSync(files['cluster-document'], 'two');
  const said = 'config reloaded; in force: nothing new; after a restart: cluster-document';
  t.equal(await service.reload?.(), said);
  t.equal(await service.reload?.(), said);
  writeFileSync(files['cluster-key-file'], '02');
  t.equal(await service.reload?.(), `${said}, cluster-key-file`);
  writeFileSync(files['cluster-document'], 'one');
  writeFileSync(files['cluster-key-file'], '01');
  t.equal(await service.reload?.(), 'config reloaded; in force: nothing new');
});

t.test('of two reloads at once the one that read the file last is in force last', async (t) => {
  let level = 1;
  const checks: (() => void)[] = [];
  const seen: unknown[] = [];
  const service = await reloadable(
    {
      load: () => ({ level }),
      check: async () => await new Promise<void>((resolve) => checks.push(resolve)),
      start: async () => ({ adjust: (next) => void seen.push(next), stop: async () => undefined }),
    },
    ['level'],
  );
  level = 2;
  const first = service.reload?.();
  await until(() => checks.length === 1, 'it is checked');
  level = 3;
  const second = service.reload?.();
  await new Promise(setImmediate);
  // A second check that is under way would be over before the first.
  checks[1]?.();
  await new Promise(setImmediate);
  checks[0]?.();
  t.equal(await first, 'config reloaded; in force: level');
  await until(() => checks.length === 2, 'the second is checked behind it');
  checks[1]?.();
  t.equal(await second, 'config reloaded; in force: level');
  t.same(seen, [{ level: 2 }, { level: 3 }]);
});

t.test('a config that is wrong changes nothing', async (t) => {
  const refusals = {
    load: 'limits.open: is missing',
    check: 'credentials.hub: the cluster document has no upstream of this name',
  };
  for (const at of ['load', 'check'] as const) {
    let isWrong = false;
    const seen: unknown[] = [];
    const refuse = (where: typeof at): void => {
      if (isWrong && where === at) throw new CodedError('CONFIG_INVALID', { message: refusals[at] });
    };
    const service = await reloadable(
      {
        load: () => {
          refuse('load');
          return { limits: {} };
        },
        check: () => refuse('check'),
        start: async () => ({ adjust: (next) => void seen.push(next), stop: async () => undefined }),
      },
      [],
    );
    await service.reload?.();
    isWrong = true;
    await t.rejects(async () => await service.reload?.(), { code: 'CONFIG_INVALID', message: refusals[at] });
    t.equal(seen.length, 1, `what ${at} refuses`);
  }
});

t.test('a key that comes by a pipe is left to who needs it', async (t) => {
  const file = join(t.testdir(), 'key');
  execFileSync('mkfifo', [file]);
  const service = await reloadable(
    {
      load: () => ({ 'cluster-key-file': file }),
      check: () => undefined,
      start: async () => ({ adjust: () => undefined, stop: async () => undefined }),
    },
    [],
  );
  t.equal(await service.reload?.(), 'config reloaded; in force: nothing new');
});

t.test('SIGHUP reloads, and a wrong file ends nothing', async (t) => {
  const file = join(t.testdir(), 'level');
  writeFileSync(file, 'info');
  const source = `
import { readFileSync } from 'node:fs';
import { CodedError } from ${sourceUrl('errors.ts')};
import { reloadable, runService } from ${sourceUrl('process.ts')};
const load = () => {
  const level = readFileSync(${JSON.stringify(file)}, 'utf8');
  if (level === 'wrong') throw new CodedError('CONFIG_INVALID', { message: 'log.level: is none' });
  return { log: { level } };
};
await runService('test', async () =>
  await reloadable(
    { load, check: () => undefined, start: async () => ({ adjust: () => undefined, stop: async () => undefined }) },
    ['log.level'],
  ),
);
console.log('ready');
process.stdin.on('data', () => undefined);
`;
  const { child, said } = startProgram(t, source);
  await once(child.stdout, 'data');
  writeFileSync(file, 'debug');
  child.kill('SIGHUP');
  await until(() => said().includes('sepia test: config reloaded; in force: log.level\n'), 'it reloads');
  writeFileSync(file, 'wrong');
  child.kill('SIGHUP');
  await until(
    () => said().includes('config not reloaded: CONFIG_INVALID: log.level: is none'),
    'it says why not',
  );
  child.kill('SIGTERM');
  t.same(await once(child, 'close'), [0, null]);
});
