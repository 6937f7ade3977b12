import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { LogLines } from '@sepia/test-support/log-lines';
import t from 'tap';
import { checkAudit, openAudit } from '../src/audit.ts';
import { silentLogger } from '../src/log.ts';
import { LogSink, logLinesLost, writtenAtOnce } from '../src/log-sink.ts';

t.test('each line is in its file when it is noted', async (t) => {
  const file = join(t.testdir(), 'new', 'audit.log');
  const audit = openAudit({ service: 'proxy', id: 'p-1', log: silentLogger() }, file);
  const lines = (): unknown[] =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as unknown);
  audit.note({ event: 'push', account: 'anna' });
  t.match(lines(), [{ event: 'push', account: 'anna', member: 'p-1', audit: true }]);
  audit.note({ event: 'delete' });
  t.equal(lines().length, 2);
  t.equal(statSync(file).mode & 0o777, 0o600);
  audit.close();
  audit.close();
  audit.note({ event: 'login' });
  t.equal(lines().length, 2, 'nothing follows its end');
});

t.test('a file that rotation moved away is begun anew by the next line', async (t) => {
  const dir = t.testdir();
  const [file, moved] = [join(dir, 'own', 'audit.log'), join(dir, 'audit.log.1')];
  const log = new LogLines();
  const audit = openAudit({ service: 'proxy', id: 'p-1', log: log.logger }, file);
  const accounts = (path: string): unknown[] =>
    readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => (JSON.parse(line) as { account: string }).account);
  audit.note({ event: 'push', account: 'anna' });
  renameSync(file, moved);
  audit.note({ event: 'push', account: 'bert' });
  audit.note({ event: 'push', account: 'carl' });
  t.same([accounts(moved), accounts(file)], [['anna'], ['bert', 'carl']]);
  t.equal(statSync(file).mode & 0o777, 0o600);
  writeFileSync(join(dir, 'made'), '', { mode: 0o640 });
  renameSync(join(dir, 'made'), file);
  audit.note({ event: 'push', account: 'dora' });
  t.same(accounts(file), ['dora'], 'a file that the rotation made');
  t.equal(statSync(file).mode & 0o777, 0o640, 'as it was made');
  rmSync(join(dir, 'own'), { recursive: true });
  audit.note({ event: 'push', account: 'emil' });
  t.same(accounts(file), ['emil'], 'its folder is gone');
  writeFileSync(file, '');
  audit.note({ event: 'push', account: 'fritz' });
  t.same(accounts(file), ['fritz'], 'emptied in place');
  rmSync(file);
  symlinkSync(moved, file);
  audit.note({ event: 'push', account: 'gerd' });
  t.same(accounts(moved), ['anna', 'gerd'], 'the name leads elsewhere');
  t.equal(log.matching(/^audit-log was moved or removed; it is begun anew$/).length, 4);
  rmSync(file);
  mkdirSync(file);
  audit.note({ event: 'push', account: 'hans' });
  audit.note({ event: 'push', account: 'inge' });
  t.same(accounts(moved), ['anna', 'gerd', 'hans', 'inge'], 'nothing is lost where no file can be made');
  t.equal(log.matching(/^audit-log was moved and cannot be begun anew/).length, 1);
  rmSync(file, { recursive: true });
  audit.close();
  t.throws(() => statSync(file), { code: 'ENOENT' }, 'what is closed begins none');
});

t.test('a file that could not be opened is refused before, and nothing is made', async (t) => {
  const dir = t.testdir();
  writeFileSync(join(dir, 'file'), 'x');
  const refused = { code: 'CONFIG_INVALID' };
  t.throws(() => checkAudit(dir), { ...refused, message: /^audit-log: .* cannot be opened \(EISDIR\)/ });
  for (const path of ['file/audit.log', 'file/deeper/audit.log'])
    t.throws(() => checkAudit(join(dir, path)), { ...refused, message: /cannot be opened \(ENOTDIR\)/ });
  checkAudit(join(dir, 'new', 'deeper', 'audit.log'));
  checkAudit(join(dir, 'file'));
  checkAudit(undefined);
  t.same(readdirSync(dir), ['file']);
  t.equal(readFileSync(join(dir, 'file'), 'utf8'), 'x');
});

t.test('a full disk loses audit lines, which are counted, and stops nobody', async (t) => {
  const { logger } = new LogLines();
  const audit = openAudit({ service: 'proxy', id: 'p-1', log: logger }, '/dev/full');
  const before = logLinesLost();
  for (let n = 0; n < 1_000; n++) audit.note({ event: 'push', reference: 'x'.repeat(5_000) });
  t.equal(logLinesLost() - before, 1_000);
  audit.close();
});

t.test('what was lost is told once there is room', async (t) => {
  const told: number[] = [];
  let isFull = true;
  const file = { ...writtenAtOnce(() => -1) };
  file.write = (bytes, done) =>
    isFull ? done(Object.assign(new Error('full'), { code: 'ENOSPC' }), 0) : done(null, bytes.length);
  const sink = new LogSink(file);
  sink.onRoom = (lost) => void told.push(lost);
  sink.write('one\n');
  sink.write('two\n');
  isFull = false;
  sink.write('three\n');
  t.same(told, [2]);
});
