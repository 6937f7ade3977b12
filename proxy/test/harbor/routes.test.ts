import { CodedError } from '@sepia/shared/errors';
import type { Context } from 'koa';
import t from 'tap';
import type { HarborParts } from '../../src/harbor/parts.ts';
import { harborRoutes } from '../../src/harbor/routes.ts';

const pass = (): void => undefined;
const parts = {
  driverAuth: pass,
  healthAuth: pass,
  webhookAuth: pass,
  verify: refuse,
} as unknown as HarborParts;

function refuse(): never {
  throw new CodedError('SIGNATURE_INVALID');
}

const context = (method: string, path: string): Context => ({ method, path, state: {} }) as Context;

t.test('drivers and webhooks go through the rate gate; health and signed calls do not', async (t) => {
  const run = harborRoutes(parts, {
    defaultUpstream: 'up',
    admit: async () => {
      throw new CodedError('OVERLOADED');
    },
  });
  for (const [method, path] of [
    ['POST', '/registry/notifications'],
    ['POST', '/kraken/registry/notifications'],
    ['POST', '/oapi/v1/jobs'],
    ['GET', '/dragonfly/oapi/v1/jobs/4097'],
    ['POST', '/preheats'],
    ['GET', '/preheats/4097'],
    ['POST', '/webhooks/harbor'],
  ] as const)
    await t.rejects(run(context(method, path)), { code: 'OVERLOADED' }, path);
  for (const path of ['/health', '/kraken/healthy', '/_ping']) t.equal(await run(context('GET', path)), true);
  await t.rejects(run(context('POST', '/v1/purge')), { code: 'SIGNATURE_INVALID' });
  t.equal(await run(context('GET', '/elsewhere')), false);
});
