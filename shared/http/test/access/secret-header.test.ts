import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import type { Context } from 'koa';
import t from 'tap';
import { secretHeader } from '../../src/access/secret-header.ts';

const asking = (header: string, value: string): Context =>
  ({ get: (name: string) => (name === header ? value : '') }) as unknown as Context;

t.test('a secret that is written anew counts without a restart; one that cannot be used does not', (t) => {
  const file = join(t.testdir({ secret: 'first\n' }), 'secret');
  let nowMs = 0;
  const isRight = secretHeader(
    { log: silentLogger(), nowMs: () => nowMs },
    { file, key: 'api.secret-file' },
    { header: 'authorization', wanted: (secret) => `Bearer ${secret}` },
  );
  const takes = (secret: string): boolean => isRight(asking('authorization', `Bearer ${secret}`));
  t.same(
    [takes('first'), takes('second'), takes(''), isRight(asking('other', 'Bearer first'))],
    [true, false, false, false],
  );
  writeFileSync(file, 'second, longer\n');
  nowMs += 1_000;
  t.same([takes('first'), takes('second, longer')], [false, true], 'the new one alone');
  for (const spoil of [() => writeFileSync(file, ' \n'), () => rmSync(file)]) {
    spoil();
    nowMs += 1_000;
    t.same([takes(''), takes('second, longer')], [false, true], 'what was read last stays');
  }
  t.end();
});

t.test('a file that holds no secret stops the start, by its key', (t) => {
  const dir = t.testdir({ empty: '\n' });
  const deps = { log: silentLogger(), nowMs: () => 0 };
  for (const [name, said] of [
    ['empty', 'is empty'],
    ['missing', 'cannot be read (ENOENT)'],
  ] as const) {
    const file = join(dir, name);
    t.throws(() => secretHeader(deps, { file, key: 'api.secret-file' }, { header: 'x' }), {
      code: 'CONFIG_INVALID',
      message: `api.secret-file: ${file} ${said}`,
    });
  }
  t.end();
});
