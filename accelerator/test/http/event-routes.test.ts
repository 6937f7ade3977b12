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

const TASK: AcceldTask = {
  id: '1-a',
  created: '2026-01-01T00:00:00Z',
  finished: null,
  source: 'harbor.example.com/team/app:v1',
  source_size: 0,
  target_size: 0,
  status: 'PROCESSING',
  reason: '',
  state: 'running',
  rule: 'all',
  tries: 0,
};

/** `onList`: runs before the queue answers. */
async function serve(
  t: Test,
  tasks: readonly AcceldTask[] = [],
  onList = async (): Promise<void> => undefined,
) {
  const stopping = new AbortController();
  const list = async (): Promise<readonly AcceldTask[]> => {
    await onList();
    return tasks;
  };
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
  const connections = async (): Promise<number> =>
    await new Promise((resolve, reject) =>
      server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    );
  return { url: `http://127.0.0.1:${port}/api/v1/conversions`, watch, stopping, bugs, connections };
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
  t.match(await unknown.body.json(), { code: 'ERR_JOB_UNKNOWN' });
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

t.test('clients that went before their stream began hold no place', async (t) => {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  let asked = 0;
  const { url, watch, bugs, connections } = await serve(t, [TASK], async () => {
    asked += 1;
    await held;
  });
  const leaving = new AbortController();
  const gone = Array.from({ length: MAX_STREAMS }, async () =>
    request(`${url}/${TASK.id}/events`, { signal: leaving.signal }).catch(() => undefined),
  );
  await until(() => asked === MAX_STREAMS, 'their job is looked for');
  leaving.abort();
  await Promise.all(gone);
  await until(async () => (await connections()) === 0, 'they are gone');
  release();
  await until(() => watch.watching === 0, 'nobody watches');
  const next = await request(`${url}/events`);
  t.equal(next.statusCode, 200, 'there is a place');
  next.body.on('error', () => undefined).destroy();
  t.same(bugs, []);
});
