import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import type { Context } from 'koa';
import t from 'tap';
import { HARBOR_CONFIG } from '../../src/harbor/config.ts';
import { driverAuth, type RequestAuth, webhookAuth } from '../../src/harbor/request-auth.ts';

const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;

/** What becomes of a request with this header: the challenge of a refusal, '' where there is none, or undefined. */
function asked(auth: RequestAuth, header: string, value: string): string | undefined {
  let challenge = '';
  const ctx = {
    get: (name: string) => (name === header ? value : ''),
    set: (_: string, text: string) => {
      challenge = text;
    },
  } as unknown as Context;
  try {
    auth(ctx);
    return undefined;
  } catch (error) {
    t.equal((error as { code?: string }).code, 'AUTH_REQUIRED');
    return challenge;
  }
}

t.test('secrets of drivers and webhooks count as their files say now, in each mode', (t) => {
  const modes = [
    ['basic', 'authorization', (secret: string) => basic(`harbor:${secret}`), 'Basic realm="sepia"'],
    ['bearer', 'authorization', (secret: string) => `Bearer ${secret}`, 'Bearer realm="sepia"'],
    ['custom', 'x-sepia', (secret: string) => secret, ''],
    ['webhook', 'authorization', (secret: string) => secret, ''],
  ] as const;
  for (const [mode, header, value, challenge] of modes) {
    const file = join(t.testdir({ secret: 'old' }), 'secret');
    let nowMs = 0;
    const deps = { log: silentLogger(), nowMs: () => nowMs };
    const given = { username: 'harbor', header: 'X-Sepia', 'secret-file': file };
    const config = HARBOR_CONFIG.parse(
      mode === 'webhook'
        ? { webhook: { auth: 'header', 'authorization-file': file } }
        : { 'driver-auth': { mode, ...given } },
    );
    const auth =
      mode === 'webhook' ? webhookAuth(deps, config.webhook) : driverAuth(deps, config['driver-auth']);
    const outcome = (): (string | undefined)[] =>
      ['old', 'renewed'].map((one) => asked(auth, header, value(one)));
    t.same(outcome(), [undefined, challenge], mode);
    writeFileSync(file, 'renewed');
    nowMs += 1_000;
    t.same(outcome(), [challenge, undefined], `${mode}, renewed`);
  }
  t.end();
});
