import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { logTail } from '../../src/up/files.ts';
import { rotateLog, rotateLogs } from '../../src/up/log-rotation.ts';

t.test('a long log is set aside, and its writer goes on in the same file', async (t) => {
  const dir = t.testdir();
  const file = join(dir, 'agent-1.log');
  const fd = openSync(file, 'a');
  t.teardown(() => closeSync(fd));
  writeSync(fd, 'first\n'.repeat(10));
  t.notOk(await rotateLog(file, 100), 'short enough');
  t.ok(await rotateLog(file, 50));
  writeSync(fd, 'second\n');
  t.equal(readFileSync(file, 'utf8'), 'second\n', 'from its beginning, without a hole');
  t.equal(readFileSync(`${file}.1`, 'utf8'), 'first\n'.repeat(10));
  t.equal(logTail(file, 60), 'second\n', 'a place before the rotation shows what came after it');
  t.ok(await rotateLog(file, 3));
  t.equal(readFileSync(`${file}.1`, 'utf8'), 'second\n', 'only the last one is kept');
  t.same(readdirSync(dir).sort(), ['agent-1.log', 'agent-1.log.1']);
});

t.test('a log that is not there changes nothing', async (t) => {
  t.notOk(await rotateLog(join(t.testdir(), 'none.log'), 0));
});

t.test('logs of a running cluster are looked at again and again', async (t) => {
  const dir = t.testdir({ 'a.log': 'aaaa', 'b.log': 'bb' });
  const files = ['a.log', 'b.log', 'none.log'].map((name) => join(dir, name));
  const stop = rotateLogs(files, 3, 5);
  await until(() => readdirSync(dir).includes('a.log.1'), 'the long one is set aside');
  stop();
  t.notOk(readdirSync(dir).includes('b.log.1'));
});
