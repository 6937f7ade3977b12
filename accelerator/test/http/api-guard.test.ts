import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import type { Context } from 'koa';
import t from 'tap';
import { apiGuard } from '../../src/http/routes.ts';

t.test('the header of webhooks is what its file says now', (t) => {
  const file = join(t.testdir({ header: 'old' }), 'header');
  let nowMs = 0;
  const deps = { log: silentLogger(), nowMs: () => nowMs };
  const guard = apiGuard(deps, { 'authorization-file': file, read: 'members' });
  const post = (value: string) => () => guard({ method: 'POST', get: () => value } as unknown as Context);
  t.doesNotThrow(post('old'));
  writeFileSync(file, 'renewed');
  nowMs += 1_000;
  t.doesNotThrow(post('renewed'));
  t.throws(post('old'), { code: 'AUTH_REQUIRED' });
  t.end();
});
