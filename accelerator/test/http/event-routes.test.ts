import { silentLogger } from '@sepia/base/log';
import { isClientGone } from '@sepia/http/app';
import { createRouter, routesOf } from '@sepia/http/router';
import { until } from '@sepia/test-support/until';
import Koa from 'koa';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { JobWatch } from '../../src/events/job-watch.ts';
import type { AcceldTask } from '../../src/http/acceld.ts';
import { eventRoutes, MAX_STREAMS } from '../../src/http/event-routes.ts';

async function serve(t: Test, tasks: readonly AcceldTask[] = []) {
  const stopping = new AbortController();
  const list = async (): Promise<readonly AcceldTask[]> => tasks;
  const watch = new JobWatch({ list, log: silentLogger() }, { lookEveryMs: 5 });
  const router = createRouter();
  eventRoutes(router, { list, watch, nowMs: () => performance.now(), stopping: stopping.signal });
  const app = new Koa();
  const bugs: unknown[] = [];
  app.on('error', (error) => void (isClientGone(error) || bugs.push(error)));
  app.use(routesOf(router));
  const server = app.listen(0, '127.0.0.1');
  await new Promise<void>((resolve) => void server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${port}/api/v1/conversions`, watch, stopping, bugs };
}

t.test('a client that goes ends its stream; a stop ends them all', async (t) => {
  const { url, watch, stopping, bugs } = await serve(t);
  const gone = await request(`${url}/events`);
  t.equal(gone.headers['content-type'], 'text/event-stream; charset=utf-8');
  gone.body.on('error', () => undefined);
  await until(() => watch.watching === 1, 'it is watched');
  gone.body.destroy();
  await until(() => watch.watching === 0, 'nobody watches');
  const stays = await request(`${url}/events`);
  const text = stays.body.text();
  await until(() => watch.watching === 1, 'it is watched');
  stopping.abort(new Error('stopping'));
  t.match(await text, /^retry: /, 'the answer ends whole');
  t.equal(watch.watching, 0);
  t.same(bugs, []);
});

t.test('a job that is not known is 404; so many streams and no more', async (t) => {
  const { url, watch } = await serve(t);
  const unknown = await request(`${url}/1-x/events`);
  t.equal(unknown.statusCode, 404);
  t.match(await unknown.body.json(), { code: 'ERR_COMMAND_UNKNOWN' });
  const streams = await Promise.all(Array.from({ length: MAX_STREAMS }, () => request(`${url}/events`)));
  await until(() => watch.watching === MAX_STREAMS, 'all are told');
  const refused = await request(`${url}/events`);
  t.equal(refused.statusCode, 503);
  await refused.body.dump();
  const [first, ...others] = streams;
  first!.body.on('error', () => undefined).destroy();
  await until(() => watch.watching === MAX_STREAMS - 1, 'one went');
  const next = await request(`${url}/events`);
  t.equal(next.statusCode, 200, 'its place is free');
  for (const { body } of [...others, next]) body.on('error', () => undefined).destroy();
});
