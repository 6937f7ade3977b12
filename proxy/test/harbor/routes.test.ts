import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { createApp } from '@sepia/http/app';
import { createGate } from '@sepia/http/gate';
import { HttpListener } from '@sepia/http/listener';
import { OPEN_ROUTES } from '@sepia/http/open-routes';
import { createRouter, routesOf } from '@sepia/http/router';
import { CallVerifier } from '@sepia/http/sign';
import t, { type Test } from 'tap';
import type { HarborParts } from '../../src/harbor/parts.ts';
import { harborGuards, harborRoutes } from '../../src/harbor/routes.ts';
import { ask } from '../support/client.ts';

const pass = (): void => undefined;
const needsLogin = (): never => {
  throw new CodedError('AUTH_REQUIRED');
};

async function start(t: Test, parts: Partial<HarborParts>, admit: () => Promise<void>): Promise<string> {
  const whole = { driverAuth: pass, healthAuth: pass, webhookAuth: pass, ...parts } as HarborParts;
  const verifier = new CallVerifier({ clusterKey: Buffer.alloc(32, 7), selfId: 'proxy-1' });
  const gate = createGate({ open: OPEN_ROUTES.proxy, guards: harborGuards(whole, admit), verifier });
  const app = createApp({ log: silentLogger(), gate });
  const router = createRouter();
  harborRoutes(router, whole, 'up');
  app.use(routesOf(router));
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  return listener.url;
}

const GUARDED = [
  ['POST', '/registry/notifications'],
  ['POST', '/kraken/registry/notifications'],
  ['POST', '/oapi/v1/jobs'],
  ['GET', '/dragonfly/oapi/v1/jobs/4097'],
  ['POST', '/preheats'],
  ['GET', '/preheats/4097'],
  ['POST', '/webhooks/harbor'],
  ['POST', '/kraken/webhooks/harbor'],
] as const;

t.test('drivers and webhooks go through the rate gate; health and signed calls do not', async (t) => {
  const url = await start(t, {}, async () => {
    throw new CodedError('OVERLOADED');
  });
  for (const [method, path] of GUARDED) t.equal((await ask(url + path, method)).status, 429, path);
  for (const path of ['/health', '/kraken/healthy', '/_ping'])
    t.equal((await ask(url + path)).status, 200, path);
  t.equal((await ask(`${url}/v1/purge`, 'POST')).status, 403);
  t.equal((await ask(`${url}/elsewhere`)).status, 404);
});

t.test('whoever does not prove himself reaches no route, whatever the method', async (t) => {
  const parts = { driverAuth: needsLogin, healthAuth: needsLogin, webhookAuth: needsLogin };
  const url = await start(t, parts, async () => undefined);
  for (const [method, path] of GUARDED) {
    t.equal((await ask(url + path, method)).status, 401, path);
    t.equal((await ask(url + path, 'DELETE')).status, 401, `DELETE ${path}`);
  }
  for (const path of ['/health', '/dragonfly/_ping']) t.equal((await ask(url + path)).status, 401, path);
});

t.test('a path with another method is 405 that names the right one', async (t) => {
  const url = await start(t, {}, async () => undefined);
  const answer = await ask(`${url}/oapi/v1/jobs`, 'DELETE');
  t.equal(answer.status, 405);
  t.equal(answer.headers['allow'], 'POST');
});
