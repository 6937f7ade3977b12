import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { ALIVE_MS } from '../../src/deadlines.ts';
import { eventStream } from '../../src/events/event-stream.ts';
import { JobWatch } from '../../src/events/job-watch.ts';
import type { AcceldTask } from '../../src/http/acceld.ts';

const task = (id: string, more: Partial<AcceldTask> = {}): AcceldTask => ({
  id,
  created: '2026-01-01T00:00:00.000Z',
  finished: null,
  source: `registry.example/a:${id}`,
  source_size: 0,
  target_size: 0,
  status: 'PROCESSING',
  reason: '',
  state: 'waiting',
  rule: 'r',
  tries: 0,
  ...more,
});

/** A queue, and a client that reads its events; `now` is its clock. */
class World {
  tasks: readonly AcceldTask[] = [];
  failure: Error | undefined;
  looks = 0;
  now = 0;
  readonly stop = new AbortController();
  readonly watch = new JobWatch(
    {
      list: async () => {
        this.looks += 1;
        if (this.failure !== undefined) throw this.failure;
        return this.tasks;
      },
      log: silentLogger(),
    },
    { lookEveryMs: 1 },
  );

  open(only?: string): AsyncGenerator<string> {
    return eventStream({ watch: this.watch, nowMs: () => this.now }, only, this.stop.signal);
  }
}

interface Told {
  readonly type: string;
  readonly data: { readonly id?: string; readonly [key: string]: unknown };
}

/** The events of the next piece that is no bare line. */
async function next(stream: AsyncGenerator<string>): Promise<Told[]> {
  for (;;) {
    const { value, done } = await stream.next();
    if (done === true) return [{ type: 'end', data: {} }];
    const found = [...(value as string).matchAll(/^event: (.*)\ndata: (.*)\n\n/gm)];
    if (found.length > 0)
      return found.map(([, type, data]) => ({ type: type!, data: JSON.parse(data!) as Told['data'] }));
  }
}

t.test('a client is told every job, then what changes, and what is gone', async (t) => {
  const world = new World();
  world.tasks = [task('1'), task('2')];
  const stream = world.open();
  t.equal((await stream.next()).value, 'retry: 3000\n\n');
  t.match(await next(stream), [
    { type: 'job', data: { id: '1', state: 'waiting' } },
    { type: 'job', data: { id: '2' } },
    { type: 'current', data: { jobs: 2 } },
  ]);
  world.tasks = [task('1', { state: 'running' })];
  t.match(await next(stream), [
    { type: 'job', data: { id: '1', state: 'running' } },
    { type: 'gone', data: { id: '2' } },
  ]);
  world.stop.abort(new CodedError('DRAINING'));
  await t.rejects(next(stream), { code: 'DRAINING' });
});

t.test('who is slow gets the newest, and nothing piles up', async (t) => {
  const world = new World();
  const slow = world.open();
  await slow.next();
  t.match(await next(slow), [{ type: 'current', data: { jobs: 0 } }]);
  for (let tries = 0; tries < 5; tries += 1) {
    world.tasks = [task('1', { tries })];
    const before = world.looks;
    await until(() => world.looks > before + 1, 'the queue was looked at');
  }
  t.match(await next(slow), [{ type: 'job', data: { id: '1', tries: 4 } }], 'one event, of the newest');
  await slow.return(undefined);
});

t.test('the queue is asked while somebody watches, once for all', async (t) => {
  const world = new World();
  const streams = [world.open(), world.open(), world.open()];
  t.equal(world.looks, 0);
  for (const stream of streams) t.match(await next(stream), [{ type: 'current' }]);
  t.equal(world.watch.watching, 3);
  for (const stream of streams) await stream.return(undefined);
  t.equal(world.watch.watching, 0);
  const { looks } = world;
  await new Promise((done) => setTimeout(done, 30));
  t.ok(world.looks <= looks + 1, 'no more looks than one that was under way');
  const again = world.open();
  t.match(await next(again), [{ type: 'current' }], 'it begins again');
  await again.return(undefined);
});

t.test('a queue that does not answer is told, and that it does again', async (t) => {
  const world = new World();
  world.failure = new CodedError('NO_PEERS', { message: 'no proxy answers' });
  const stream = world.open();
  t.match(await next(stream), [{ type: 'lack', data: { message: 'no proxy answers' } }]);
  world.tasks = [task('1')];
  world.failure = undefined;
  t.match(await next(stream), [{ type: 'job' }, { type: 'current', data: { jobs: 1 } }]);
  world.failure = new CodedError('NO_PEERS', { message: 'gone again' });
  t.match(await next(stream), [{ type: 'lack', data: { message: 'gone again' } }], 'jobs stay as they were');
  await stream.return(undefined);
});

t.test('the stream of one job ends with it', async (t) => {
  const world = new World();
  world.tasks = [task('1'), task('2')];
  const stream = world.open('2');
  t.match(await next(stream), [{ type: 'job', data: { id: '2' } }, { type: 'current' }]);
  world.tasks = [task('1', { state: 'running' }), task('2', { state: 'done', status: 'COMPLETED' })];
  t.match(await next(stream), [{ type: 'job', data: { id: '2', state: 'done' } }]);
  t.match(await next(stream), [{ type: 'end' }]);
  const lost = world.open('1');
  t.match(await next(lost), [{ type: 'job', data: { id: '1' } }, { type: 'current' }]);
  world.tasks = [];
  t.match(await next(lost), [{ type: 'gone', data: { id: '1' } }]);
  t.match(await next(lost), [{ type: 'end' }]);
});

t.test('a line now and then shows that the connection lives', async (t) => {
  const world = new World();
  const stream = world.open();
  await stream.next();
  await next(stream);
  world.now += ALIVE_MS;
  t.equal((await stream.next()).value, ': alive\n\n');
  await stream.return(undefined);
});
