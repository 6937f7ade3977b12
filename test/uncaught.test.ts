import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';

const PRELOAD = join(import.meta.dirname, '../scripts/test-preload.mjs');

/** Errors that nobody awaits, by where they come from. */
const WAYS: Readonly<Record<string, string>> = {
  'a timer': "setTimeout(() => { throw new Error('lost') }, 1)",
  'an immediate': "setImmediate(() => { throw new Error('lost') })",
  'a tick': "process.nextTick(() => { throw new Error('lost') })",
  'a microtask': "queueMicrotask(() => { throw new Error('lost') })",
  'a promise': "void (async () => { await null; throw new Error('lost') })()",
  'a promise of a timer': "void delay(1).then(() => { throw new Error('lost') })",
  'no error at all': "void Promise.reject('lost')",
  'a file': "readFile('/', () => { throw new Error('lost') })",
  'an event': `
const server = createServer((socket) => {
  server.close();
  socket.destroy();
  throw new Error('lost');
}).listen(0, () => connect(server.address().port).on('error', () => undefined).resume());`,
};

/** What tap says of a file of two tests, of which the second does this, and its exit code. */
async function outcome(t: Test, code: string): Promise<{ tap: string; exitCode: number | null }> {
  const dir = t.testdir({
    'one.test.ts': `
import { readFile } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
t.test('before', async (t) => { await delay(1); t.pass('held'); });
t.test('guilty', async (t) => { ${code}; await delay(60_000, undefined, { ref: false }); });
t.test('after', async (t) => { await delay(1); t.pass('held'); });
`,
  });
  const args = ['--import', PRELOAD, join(dir, 'one.test.ts')];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  const [tap, [exitCode]] = await Promise.all([text(child.stdout), once(child, 'close')]);
  return { tap, exitCode };
}

for (const [what, code] of Object.entries(WAYS))
  t.test(`an error that nobody catches, from ${what}, fails its test`, async (t) => {
    const { tap, exitCode } = await outcome(t, code);
    t.equal(exitCode, 1);
    t.match(tap, /^ok 1 - before/m);
    t.match(tap, /^not ok 2 - guilty/m);
    t.match(tap, /^ {4}not ok 1 - .*lost/m);
  });
