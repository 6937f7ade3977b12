import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { CLOCKS_APART_MS, HOLD_MS, MAX_JOB_WAIT_MS } from '../../../src/deadlines.ts';
import type { Job } from '../../../src/jobs/core/job.ts';
import { inTurn, isDue } from '../../../src/jobs/core/turns.ts';

const ownerOf = (key: string): string => key.split('/')[0]!;

/** A waiting job of the owner that its key begins with. */
function waiting(key: string, addedAtMs: number, more: Partial<Job<string>> = {}): Job<string> {
  return {
    id: key,
    key,
    payload: 'p',
    state: 'waiting',
    addedAtMs,
    notBeforeMs: addedAtMs,
    tries: 0,
    ...more,
  };
}

const idsOf = (jobs: readonly Job<string>[]): string[] => jobs.map(({ id }) => id);

t.test('the oldest first; of many jobs of one owner those of others do not wait for all', async (t) => {
  const many = Array.from({ length: 100 }, (_, at) => waiting(`many/${at}`, at));
  const jobs = [...many, waiting('one/0', 200), waiting('two/0', 201), waiting('two/1', 202)];
  t.same(idsOf(inTurn(jobs, 300, 6, ownerOf)), ['many/0', 'one/0', 'two/0', 'many/1', 'two/1', 'many/2']);
  t.same(idsOf(inTurn(jobs, 300, 3)), ['many/0', 'many/1', 'many/2'], 'without owners they are all alike');
  t.same(inTurn(jobs, -1, 6, ownerOf), [], 'none before its time');
});

t.test('a job that runs is due once its time with the holder is over, or where none is said', async (t) => {
  const until = (heldUntilMs: number) => waiting('a/0', 0, { state: 'running', holder: 'x', heldUntilMs });
  t.notOk(isDue(until(1_001), 1_000));
  t.ok(isDue(until(1_000), 1_000));
  t.ok(isDue(waiting('a/0', 0, { state: 'running', holder: 'x' }), 1_000), 'nobody would ever let it go');
  for (const state of ['done', 'dead', 'cancelled'] as const)
    t.notOk(isDue(waiting('a/0', 0, { state }), 1_000), state);
});

t.test('clocks that were set back hold up no job that was noted before', async (t) => {
  const nowMs = 1_000_000;
  const cases = [
    { most: 0, job: (atMs: number) => waiting('new/0', 0, { notBeforeMs: atMs }) },
    { most: MAX_JOB_WAIT_MS, job: (atMs: number) => waiting('failed/0', 0, { notBeforeMs: atMs, tries: 1 }) },
    {
      most: HOLD_MS,
      job: (heldUntilMs: number) => waiting('held/0', 0, { state: 'running', holder: 'x', heldUntilMs }),
    },
  ];
  for (const { most, job } of cases) {
    const farMs = nowMs + most + CLOCKS_APART_MS;
    t.notOk(isDue(job(farMs), nowMs), job(0).key);
    t.ok(isDue(job(farMs + 1), nowMs), job(0).key);
    t.ok(isDue(job(nowMs), nowMs), job(0).key);
  }
});

t.test('who has a job that runs, or was served last, comes later', async (t) => {
  const hold = { holder: 'x', heldUntilMs: 1_000 + HOLD_MS };
  const running = waiting('many/0', 0, { state: 'running', ...hold, takenAtMs: 10 });
  const served = waiting('old/0', 0, { state: 'done', takenAtMs: 50 });
  const dead = waiting('late/0', 0, { state: 'dead', takenAtMs: 90 });
  const jobs = [running, served, dead, waiting('many/1', 1), waiting('late/1', 2), waiting('old/1', 3)];
  t.same(idsOf(inTurn(jobs, 1_000, 9, ownerOf)), ['old/1', 'late/1', 'many/1']);
  t.same(
    idsOf(inTurn(jobs, 1_000 + HOLD_MS, 1, ownerOf)),
    ['many/0'],
    'who holds nothing any more runs nothing',
  );
});

t.test('property: of owners that wait, none is served twice before another is served once', async () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.nat(9)), { maxLength: 30 }), (added) => {
      let jobs = added.map(([owner, atMs], at) => waiting(`${owner}/${at}`, atMs));
      const waits = (owner: string): boolean =>
        jobs.some((job) => job.state === 'waiting' && ownerOf(job.key) === owner);
      const since = new Map<string, string[]>();
      for (let nowMs = 10; ; nowMs += 1) {
        const owners = ['a', 'b', 'c'].filter(waits);
        const [next] = inTurn(jobs, nowMs, 1, ownerOf);
        if ((next === undefined) !== (owners.length === 0)) throw new Error('a due job found no turn');
        if (next === undefined) break;
        const served = ownerOf(next.key);
        for (const owner of owners) {
          const others = since.get(owner) ?? [];
          if (owner !== served && others.includes(served)) throw new Error(`${owner} waits for ${served}`);
          since.set(owner, owner === served ? [] : [...others, served]);
        }
        jobs = jobs.map((job) => (job === next ? { ...job, state: 'done', takenAtMs: nowMs } : job));
      }
    }),
  );
});
