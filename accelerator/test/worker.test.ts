import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { Reach } from '@sepia/base/reach';
import type { ConversionJob, ConversionOutcome, ConversionTask } from '@sepia/cluster/api/conversions';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import type { QueueClient } from '../src/net/queue-client.ts';
import { Worker } from '../src/worker.ts';

const task = (tag: string): ConversionTask => ({
  kind: 'convert',
  rule: 'r',
  upstream: 'u',
  repository: 'a',
  tag,
});

/** A queue that hands out its jobs once and notes what it hears. */
class FakeQueue {
  readonly heard: string[] = [];
  isHeld = true;
  readonly #jobs: ConversionJob[] = [];

  constructor(...tags: string[]) {
    this.add(...tags);
  }

  add(...tags: string[]): void {
    const jobs = tags.map((tag) => ({
      id: tag,
      key: tag,
      payload: task(tag),
      state: 'running',
      addedAtMs: 0,
      notBeforeMs: 0,
      tries: 0,
    })) satisfies ConversionJob[];
    this.#jobs.push(...jobs);
  }

  take = async (_holder: string, limit: number): Promise<ConversionJob[]> => this.#jobs.splice(0, limit);
  renew = async (id: string, _holder?: string): Promise<boolean> => {
    this.heard.push(`renew ${id}`);
    return this.isHeld;
  };
  finish = async (id: string, _holder: string, result: ConversionOutcome): Promise<void> =>
    void this.heard.push(`finish ${id} ${result.outcome}`);
  fail = async (id: string, _holder: string, error: string, isFinal: boolean): Promise<void> =>
    void this.heard.push(`fail ${id} ${error} ${isFinal}`);
  release = async (id: string): Promise<void> => void this.heard.push(`release ${id}`);
}

function start(
  t: Test,
  queue: FakeQueue,
  run: (one: ConversionTask, signal: AbortSignal) => Promise<ConversionOutcome>,
  workers = 1,
  reach = new Reach({ whom: 'proxies', patienceMs: 0 }),
): Worker {
  const worker = new Worker(
    {
      queue: queue as unknown as QueueClient,
      holder: 'me',
      log: silentLogger(),
      reach,
      onEnd: () => undefined,
      run: async (one, _onProgress, signal) => await run(one, signal),
    },
    { workers, lookEveryMs: 5, renewMs: 5 },
  );
  worker.start();
  t.teardown(() => worker.stop());
  return worker;
}

t.test('a queue that does not answer is a lack until it does', async (t) => {
  const queue = new FakeQueue();
  let isSilent = true;
  const take = queue.take;
  queue.take = async (...asked) => {
    if (isSilent) throw new CodedError('NO_PEERS', { message: 'no proxy answers' });
    return await take(...asked);
  };
  const reach = new Reach({ whom: 'proxies', patienceMs: 0 });
  start(t, queue, async () => ({ outcome: 'converted' }), 1, reach);
  await until(() => reach.lack(performance.now()) !== undefined, 'a lack');
  t.match(reach.lack(performance.now())?.why, /none of the proxies.*no proxy answers/);
  isSilent = false;
  await until(() => reach.lack(performance.now()) === undefined, 'it answers');
});

t.test('each job ends in one word to the queue', async (t) => {
  const queue = new FakeQueue('good', 'later', 'never', 'bug', 'full', 'quota');
  start(t, queue, async ({ tag }) => {
    if (tag === 'later') throw new CodedError('BACKEND_DOWN', { message: 'down' });
    if (tag === 'never') throw new CodedError('LAYER_INVALID', { message: 'bad' });
    if (tag === 'bug') throw new TypeError('of ours');
    if (tag === 'full') throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    if (tag === 'quota') throw Object.assign(new Error('disk quota exceeded'), { code: 'EDQUOT' });
    return { outcome: 'converted' };
  });
  const ends = (): string[] => queue.heard.filter((one) => !one.startsWith('renew'));
  await until(() => ends().length === 6, 'six ends');
  t.same(ends(), [
    'finish good converted',
    'fail later BACKEND_DOWN: down false',
    'fail never LAYER_INVALID: bad true',
    'fail bug INTERNAL: see the log of the accelerator true',
    'fail full DISK_FULL: the data folder of the accelerator has no room for the layer false',
    'fail quota DISK_FULL: the data folder of the accelerator has no room for the layer false',
  ]);
});

t.test('what a registry refuses is asked again, but not for ever', async (t) => {
  const queue = new FakeQueue('a');
  const refused = new CodedError('UPSTREAM_DENIED', { message: 'no', detail: { status: 403 } });
  const take = queue.take;
  let tries = 0;
  queue.take = async (...asked) => (await take(...asked)).map((job) => ({ ...job, tries }));
  start(t, queue, async () => {
    throw refused;
  });
  const ends = (): string[] => queue.heard.filter((one) => one.startsWith('fail'));
  const said = ['UPSTREAM_DENIED: no false', 'UPSTREAM_DENIED: no false', 'UPSTREAM_DENIED: no true'];
  for (tries = 0; tries < 3; tries += 1) {
    if (tries > 0) queue.add('a');
    await until(() => ends().length === tries + 1, `try ${tries + 1}`);
  }
  t.same(
    ends(),
    said.map((one) => `fail a ${one}`),
  );
});

t.test('no more at once than there are workers', async (t) => {
  const queue = new FakeQueue('a', 'b', 'c', 'd', 'e');
  let [now, most] = [0, 0];
  start(
    t,
    queue,
    async () => {
      now += 1;
      most = Math.max(most, now);
      await new Promise((done) => setTimeout(done, 20));
      now -= 1;
      return { outcome: 'unchanged' };
    },
    2,
  );
  await until(() => queue.heard.filter((one) => one.startsWith('finish')).length === 5, 'five ends');
  t.equal(most, 2);
});

const forever = async (signal: AbortSignal): Promise<never> =>
  await new Promise(
    (_, reject) => void signal.addEventListener('abort', () => reject(signal.reason as Error)),
  );

t.test('a stop gives jobs back at once', async (t) => {
  const queue = new FakeQueue('a');
  const worker = start(t, queue, async (_, signal) => await forever(signal));
  await until(() => worker.running === 1, 'it runs');
  await worker.stop();
  t.equal(queue.heard.at(-1), 'release a');
});

t.test('a job that was cancelled is stopped, and nothing more is said of it', async (t) => {
  const queue = new FakeQueue('a');
  queue.isHeld = false;
  const worker = start(t, queue, async (_, signal) => await forever(signal));
  await until(() => queue.heard.length > 0 && worker.running === 0, 'it stops');
  t.same(queue.heard, ['renew a']);
});

t.test('another number of workers counts at once', async (t) => {
  const queue = new FakeQueue('a', 'b', 'c');
  const running: string[] = [];
  const worker = start(t, queue, async ({ tag }, signal) => {
    running.push(tag);
    return await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  await until(() => running.length === 1, 'one at once');
  worker.adjust(3);
  await until(() => running.length === 3, 'three at once');
});

t.test('what the queue gives here once more runs after it was stopped, not beside it', async (t) => {
  const queue = new FakeQueue('a', 'a');
  const take = queue.take;
  const holders: string[] = [];
  queue.take = async (holder) => {
    const jobs = await take(holder, 1);
    if (jobs.length > 0) holders.push(holder);
    return jobs;
  };
  const renewed: string[] = [];
  queue.renew = async (_id, holder) => {
    renewed.push(holder!);
    return true;
  };
  const ended: string[] = [];
  queue.finish = async (id, holder) => void ended.push(`${id} ${holder}`);
  const at: string[] = [];
  start(
    t,
    queue,
    async (_, signal) => {
      if (at.length > 0) {
        at.push('second');
        return { outcome: 'converted' };
      }
      at.push('first');
      await forever(signal).catch(() => undefined);
      await until(() => renewed.includes(holders[1]!), 'who waits for it holds the job');
      at.push('first ended');
      return { outcome: 'converted' };
    },
    2,
  );
  await until(() => ended.length > 0, 'it ended');
  t.same(at, ['first', 'first ended', 'second']);
  t.same(ended, [`a ${holders[1]}`], 'the hold that was lost says nothing');
  t.not(holders[0], holders[1]);
});

t.test('a word about a hold that comes late, or twice, ends no later hold of the same job', async (t) => {
  const { JobQueue } = await import('@sepia/records/jobs/job-queue');
  let lanes: Record<string, unknown> = {};
  const registers = {
    read: async <T>(key: string) => lanes[key] as T | undefined,
    change: async <T>(key: string, change: (current: T | undefined) => T | undefined) => {
      const next = change(lanes[key] as T | undefined);
      lanes = { ...lanes, [key]: next };
      return next;
    },
  };
  const jobs = new JobQueue<ConversionTask>(
    { registers, nowMs: () => 1_000, chance: () => 0 },
    { name: 'n', retry: { firstMs: 1, maxMs: 1, tries: 1 } },
  );
  const [older, newer] = [
    { ...task('a'), digest: 'sha256:1' },
    { ...task('a'), digest: 'sha256:2' },
  ];
  await jobs.add('a', older);
  const queue = new FakeQueue();
  queue.take = async (holder, limit) => (await jobs.take(holder, limit)) as ConversionJob[];
  queue.renew = async (id, holder) => await jobs.renew(id, holder!);
  const isTaken = async (): Promise<boolean> => (await jobs.list())[0]?.state === 'running';
  let isFirst = true;
  queue.finish = async (id, holder, result) => {
    await jobs.finish(id, holder, result);
    if (!isFirst) return;
    isFirst = false;
    // The answer is lost; by the time it is said again this accelerator has the newer task.
    await until(isTaken, 'the newer task is taken');
    await jobs.finish(id, holder, result);
  };
  const ran: unknown[] = [];
  start(
    t,
    queue,
    async ({ digest }) => {
      ran.push(digest);
      if (digest === older.digest) await jobs.add('a', newer);
      return { outcome: 'converted' };
    },
    2,
  );
  await until(async () => (await jobs.list())[0]?.state === 'done', 'it is done');
  t.same(ran, [older.digest, newer.digest]);
});

t.test(
  'a job that was lost, and ends well all the same, ends nothing that has its name by now',
  async (t) => {
    const queue = new FakeQueue('a');
    queue.isHeld = false;
    const worker = start(t, queue, async (_, signal) => {
      await forever(signal).catch(() => undefined);
      return { outcome: 'converted' };
    });
    await until(() => queue.heard.length > 0 && worker.running === 0, 'it ends');
    t.same(queue.heard, ['renew a']);
  },
);

t.test('nor does one whose loss is told after its end', async (t) => {
  const queue = new FakeQueue('a');
  const [asked, told, done] = [0, 1, 2].map(() => Promise.withResolvers<void>());
  queue.renew = async () => {
    asked!.resolve();
    await told!.promise;
    return false;
  };
  const worker = start(t, queue, async () => {
    await done!.promise;
    return { outcome: 'converted' };
  });
  await asked!.promise;
  done!.resolve();
  // What follows the end of its work, up to the wait for the answer.
  await new Promise((resolve) => setImmediate(resolve));
  told!.resolve();
  await until(() => worker.running === 0, 'it ends');
  t.same(queue.heard, []);
});
