import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { createLogger } from '@sepia/base/log';
import t from 'tap';
import { makeDebugProof } from '../src/debug-proof.ts';

t.test('a token for its port, another at each start, for its owner alone', async (t) => {
  const dir = t.testdir();
  const log = createLogger('snapshotter', 'node', 'error', { write: () => undefined });
  const first = await makeDebugProof(dir, '127.0.0.1:17502', log);
  const { file, token } = await makeDebugProof(dir, '127.0.0.1:17502', log);
  t.equal(file, join(dir, 'debug-token'));
  t.match(token, /^sepia-debug-17502-[0-9a-f]{64}$/);
  t.not(token, first.token);
  t.equal(readFileSync(file, 'utf8'), token);
  t.equal(statSync(file).mode & 0o777, 0o600);
});

t.test(
  'who reads it while the daemon starts again sees a whole token, the former or the new one',
  async (t) => {
    const dir = t.testdir();
    const log = createLogger('snapshotter', 'node', 'error', { write: () => undefined });
    const { file, token } = await makeDebugProof(dir, '127.0.0.1:17502', log);
    const seen = new Set<string>();
    let next: string | undefined;
    const renewal = makeDebugProof(dir, '127.0.0.1:17502', log).then((proof) => (next = proof.token));
    while (next === undefined) {
      seen.add(readFileSync(file, 'utf8'));
      await setImmediate();
    }
    await renewal;
    seen.delete(token);
    seen.delete(next);
    t.equal(seen.size, 0, [...seen].join(' '));
  },
);

t.test('where it cannot be written the daemon starts all the same, and says so', async (t) => {
  const dir = t.testdir();
  mkdirSync(join(dir, 'debug-token'));
  const lines: string[] = [];
  const log = createLogger('snapshotter', 'node', 'warn', { write: (line) => void lines.push(line) });
  const { token } = await makeDebugProof(dir, '127.0.0.1:17502', log);
  t.match(token, /^sepia-debug-/);
  t.match(lines, [/debug answers nobody/]);
});
