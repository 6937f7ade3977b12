import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import { JobQueue, type Registers } from '../../src/jobs/job-queue.ts';

/** What an origin takes as a value, about. */
const MOST_BYTES = 250 * 1024;

/** Registers in memory whose changes may have to be made twice, as those of a quorum, and that take so much and no more. */
function memoryRegisters(lost: { read: Set<string>; change: Set<string> }): Registers {
  const values = new Map<string, unknown>();
  return {
    read: async <T>(key: string) => {
      if (lost.read.has(key)) throw new CodedError('QUORUM_LOST');
      return structuredClone(values.get(key)) as T | undefined;
    },
    change: async <T>(key: string, change: (current: T | undefined) => T | undefined) => {
      if (lost.change.has(key)) throw new CodedError('QUORUM_LOST');
      change(structuredClone(values.get(key)) as T | undefined);
      const next = change(structuredClone(values.get(key)) as T | undefined);
      const text = JSON.stringify(next);
      if (text.length > MOST_BYTES) throw new CodedError('QUORUM_LOST');
      values.set(key, JSON.parse(text));
      return next;
    },
  };
}

function setup() {
  let nowMs = 1_000;
  let seed = 0;
  const chance = (): number => (seed = (seed + 0.37) % 1);
  const lost = { read: new Set<string>(), change: new Set<string>() };
  const registers = memoryRegisters(lost);
  const open = (name = 'test', ownerOf?: (key: string) => string): JobQueue<{ n: number }> =>
    new JobQueue(
      { registers, nowMs: () => nowMs, chance },
      {
        ...{ name, retry: { firstMs: 100, maxMs: 1_000, tries: 2 } },
        ...(ownerOf === undefined ? {} : { ownerOf }),
      },
    );
  return { open, lost, wait: (ms: number) => (nowMs += ms) };
}

t.test('every job is done once, by whichever queue object', async (t) => {
  const { open } = setup();
  const [one, other] = [open(), open()];
  for (let n = 0; n < 30; n += 1) t.ok((await one.add(`key ${n}`, { n })).isNew);
  t.notOk((await other.add('key 3', { n: 3 })).isNew);
  const done: number[] = [];
  for (;;) {
    const jobs = [...(await one.take('a', 4)), ...(await other.take('b', 3))];
    if (jobs.length === 0) break;
    t.ok(jobs.length <= 7);
    for (const job of jobs) {
      done.push(job.payload.n);
      await other.finish(job.id, job.holder!, job.payload.n);
    }
  }
  t.same(
    done.sort((x, y) => x - y),
    Array.from({ length: 30 }, (_, n) => n),
  );
  t.ok((await one.list()).every((job) => job.state === 'done'));
});

t.test('lanes whose owners are gone hold nobody up; what was taken before one went is given', async (t) => {
  const { open, lost } = setup();
  const queue = open();
  for (let n = 0; n < 40; n += 1) await queue.add(`key ${n}`, { n });
  const registers = Array.from({ length: 8 }, (_, lane) => `jobs\0test\0${lane}`);
  lost.read.add(registers[0]!).add(registers[1]!);
  const first = await queue.take('a', 40);
  t.ok(first.length > 0 && first.length < 40, `${first.length} of 40`);
  for (const { id } of first) await queue.release(id, 'a');
  lost.read.clear();
  lost.change.add(registers[7]!).add(registers[6]!).add(registers[5]!);
  const taken: number[] = [];
  for (let look = 0; look < 40; look += 1) {
    const jobs = await queue.take('a', 40).catch((error: CodedError) => {
      t.equal(error.code, 'QUORUM_LOST');
      return [];
    });
    taken.push(...jobs.map(({ payload }) => payload.n));
  }
  t.ok(taken.length > 0, `${taken.length} taken`);
  t.equal(new Set(taken).size, taken.length);
  for (const register of registers) lost.read.add(register);
  await t.rejects(queue.take('a', 40), { code: 'QUORUM_LOST' });
});

t.test('who gets nothing because no lane can be changed is told why', async (t) => {
  const { open, lost } = setup();
  const queue = open();
  await queue.add('key', { n: 1 });
  for (let lane = 0; lane < 8; lane += 1) lost.change.add(`jobs\0test\0${lane}`);
  await t.rejects(queue.take('a', 4), { code: 'QUORUM_LOST' });
  lost.change.clear();
  t.equal((await queue.take('a', 4)).length, 1);
});

t.test('jobs of one owner in all lanes do not hold up those of another', async (t) => {
  const { open, wait } = setup();
  const queue = open('test', (key) => key.split('/')[0]!);
  for (let n = 0; n < 200; n += 1) await queue.add(`many/${n}`, { n });
  wait(10);
  for (let n = 0; n < 5; n += 1) await queue.add(`few/${n}`, { n });
  const order: string[] = [];
  for (let turn = 0; turn < 10; turn += 1) {
    wait(10);
    const [job] = await queue.take('a', 1);
    order.push(job!.key.split('/')[0]!);
    await queue.finish(job!.id, 'a', {});
  }
  t.same(order, Array.from({ length: 5 }, () => ['many', 'few']).flat());
});

t.test('what a holder cannot do waits for another, with all its tries', async (t) => {
  const { open, wait } = setup();
  const queue = open();
  for (let n = 0; n < 20; n += 1) await queue.add(`key ${n}`, { n });
  const isEven = ({ n }: { readonly n: number }): boolean => n % 2 === 0;
  const taken = await queue.take('old', 40, isEven);
  t.ok(taken.length > 0 && taken.every(({ payload }) => isEven(payload)));
  // Who held them went away.
  wait(3_600_000);
  t.ok((await queue.take('odd', 40, (one) => !isEven(one))).every(({ payload }) => !isEven(payload)));
  wait(3_600_000);
  const rest: number[] = [];
  for (let look = 0; look < 10; look += 1)
    for (const { payload, tries } of await queue.take('new', 40)) {
      t.equal(tries, 0);
      rest.push(payload.n);
    }
  t.equal(new Set(rest).size, 20, 'who knows all of them gets them');
});

t.test('failure, release, cancel and retry by id', async (t) => {
  const { open, wait } = setup();
  const queue = open();
  const { id } = await queue.add('k', { n: 1 });
  await queue.take('a', 1);
  await queue.fail(id, 'a', 'first', false);
  t.same(await queue.take('a', 1), []);
  wait(1_000);
  t.equal((await queue.take('a', 1)).length, 1);
  await queue.release(id, 'a');
  t.equal((await queue.take('b', 1))[0]?.tries, 1);
  t.ok(await queue.renew(id, 'b', { share: 0.5 }));
  t.match(await queue.list(), [{ progress: { share: 0.5 } }]);
  await queue.cancel(id);
  t.notOk(await queue.renew(id, 'b'));
  await queue.retry(id);
  t.equal((await queue.take('c', 1)).length, 1);
  await queue.fail(id, 'c', 'never', true);
  t.match(await queue.list(), [{ state: 'dead', error: 'never' }]);
  await t.rejects(queue.cancel('7-unknown'), { code: 'JOB_UNKNOWN' });
  await t.rejects(queue.retry('nonsense'), { code: 'JOB_UNKNOWN' });
  t.same(await open('other').list(), [], 'queues of other names share nothing');
});

t.test('jobs that have much to say do not make their lane too long to change', async (t) => {
  const { open, wait } = setup();
  const queue = open();
  for (let n = 0; n < 60; n += 1) {
    wait(1);
    const { id } = await queue.add('of one lane', { n });
    t.equal((await queue.take('a', 1))[0]?.id, id);
    const line = `${n}`.padEnd(300, '.');
    if (n % 2 === 0) await queue.finish(id, 'a', { lost: Array.from({ length: 50 }, () => line) });
    else await queue.fail(id, 'a', 'why'.repeat(1_300), true);
  }
  const jobs = await queue.list();
  t.equal(jobs[0]?.payload.n, 59);
  t.ok(jobs.length > 10, `${jobs.length} are still shown`);
});
