import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { HOLD_MS } from '../../../src/deadlines.ts';
import { isOpen, type Job, type JobLane } from '../../../src/jobs/core/job.ts';
import {
  addJob,
  cancelJob,
  failJob,
  finishJob,
  MAX_LOSSES,
  MAX_OPEN,
  releaseJob,
  renewJob,
  retryJob,
  takeJobs,
} from '../../../src/jobs/core/job-lane.ts';

const RULES = { firstMs: 1_000, maxMs: 60_000, tries: 3 };
const failure = { error: 'why', isFinal: false, chance: 0.5, rules: RULES };
const one = (id: string, key = id, payload = 'p') => ({ id, key, payload });
const jobOf = (lane: JobLane<string>, id: string): Job<string> => lane.jobs.find((job) => job.id === id)!;

t.test('what is settled is not put in, unless a job of it is open', async (t) => {
  const seen: number[] = [];
  const isSettled = (jobs: readonly Job<string>[]): boolean => seen.push(jobs.length) > 0;
  const { lane, isNew } = addJob(undefined, one('a', 'k'), 0, { isSettled });
  t.ok(isNew, 'there is no job that could settle it');
  t.match(addJob(lane, one('b', 'k', 'newer'), 1, { isSettled }), {
    id: 'a',
    lane: { jobs: [{ payload: 'newer' }] },
  });
  t.same(seen, []);
  const dead = failJob(takeJobs(lane, 'x', 2, 1).lane, 'a', 'x', 3, { ...failure, isFinal: true });
  t.same(addJob(dead, one('b', 'k'), 4, { isSettled }), { lane: dead, id: 'a', isNew: false });
  t.same(seen, [1]);
  t.match(addJob(dead, one('b', 'k'), 4, { isSettled: () => false }), { id: 'b', isNew: true });
  t.match(addJob(dead, one('b', 'k'), 4), { id: 'b', isNew: true });
});

t.test('a job is taken once, and again when its holder went away', async (t) => {
  const { lane } = addJob<string>(undefined, one('a'), 0);
  const first = takeJobs(lane, 'x', 0, 5);
  t.match(first.taken, [{ id: 'a', state: 'running', holder: 'x' }]);
  t.same(takeJobs(first.lane, 'y', HOLD_MS - 1, 5).taken, []);
  const renewed = renewJob(first.lane, 'a', 'x', HOLD_MS - 1, { share: 0.5 });
  t.same(takeJobs(renewed.lane, 'y', HOLD_MS, 5).taken, []);
  const second = takeJobs(renewed.lane, 'y', 2 * HOLD_MS, 5);
  t.match(second.taken, [{ holder: 'y' }]);
  t.notOk(renewJob(second.lane, 'a', 'x', 2 * HOLD_MS).isHeld, 'the first holder must stop');
  t.equal(
    finishJob(second.lane, 'a', 'x', 2 * HOLD_MS, 'late'),
    second.lane,
    'and its result does not count',
  );
  t.match(jobOf(finishJob(second.lane, 'a', 'y', 2 * HOLD_MS, 'r'), 'a'), { state: 'done', result: 'r' });
});

t.test('of one key the newest payload wins', async (t) => {
  const { lane } = addJob<string>(undefined, one('a', 'k', '1'), 0);
  t.match(addJob(lane, one('b', 'k', '1'), 1), { id: 'a', isNew: false });
  const waiting = addJob(lane, one('b', 'k', '2'), 1);
  t.match(jobOf(waiting.lane, 'a'), { payload: '2', state: 'waiting' });
  const running = addJob(takeJobs(waiting.lane, 'x', 2, 1).lane, one('c', 'k', '3'), 3).lane;
  t.match(jobOf(running, 'a'), { payload: '2', next: '3', state: 'running' });
  const again = finishJob(running, 'a', 'x', 4, 'of 2');
  t.match(jobOf(again, 'a'), { payload: '3', state: 'waiting', notBeforeMs: 4 });
  t.equal(jobOf(again, 'a').result, undefined);
  t.match(jobOf(failJob(running, 'a', 'x', 4, failure), 'a'), { payload: '3', state: 'waiting', tries: 0 });
  const released = releaseJob(running, 'a', 'x', 4);
  t.match(jobOf(released, 'a'), { payload: '3', next: undefined, state: 'waiting' });
  t.match(jobOf(addJob(released, one('d', 'k', '2'), 5).lane, 'a'), { payload: '2', next: undefined });
});

t.test('who asks again for what runs asks for nothing more, in whatever order its fields come', async (t) => {
  const payload = { kind: 'convert', tag: '1', digest: 'd' };
  const { lane } = addJob(undefined, { id: 'a', key: 'k', payload }, 0);
  const running = takeJobs(lane, 'x', 1, 1).lane;
  const asked = { id: 'b', key: 'k', payload: { digest: 'd', kind: 'convert', tag: '1' } };
  const again = addJob(running, asked, 2);
  t.same([again.id, again.isNew, again.lane], ['a', false, running]);
  t.match(failJob(again.lane, 'a', 'x', 3, { ...failure, isFinal: true }), { jobs: [{ state: 'dead' }] });
});

t.test('failures wait longer and end as dead; what no try can mend is dead at once', async (t) => {
  let { lane } = addJob<string>(undefined, one('a'), 0);
  const waits: number[] = [];
  for (let at = 0; jobOf(lane, 'a').state === 'waiting'; ) {
    at = jobOf(lane, 'a').notBeforeMs;
    lane = failJob(takeJobs(lane, 'x', at, 1).lane, 'a', 'x', at, failure);
    waits.push(jobOf(lane, 'a').notBeforeMs - at);
  }
  t.same(waits.slice(0, 2), [750, 1500]);
  t.match(jobOf(lane, 'a'), { state: 'dead', tries: 3, error: 'why' });
  t.match(jobOf(retryJob(lane, 'a', 9), 'a'), { state: 'waiting', tries: 0, notBeforeMs: 9 });
  const other = takeJobs(addJob<string>(undefined, one('b'), 0).lane, 'x', 0, 1).lane;
  t.equal(jobOf(failJob(other, 'b', 'x', 1, { ...failure, isFinal: true }), 'b').state, 'dead');
});

t.test('a job that ends one holder after the other is dead', async (t) => {
  let { lane } = addJob<string>(undefined, one('a', 'k', '1'), 0);
  const lose = (until: number): void => {
    for (let n = 0; n < until; n += 1) lane = takeJobs(lane, `h${n}`, n * HOLD_MS, 1).lane;
  };
  lose(MAX_LOSSES);
  t.match(jobOf(lane, 'a'), { state: 'running', losses: MAX_LOSSES - 1 });
  const newer = addJob(lane, one('b', 'k', '2'), 0).lane;
  const late = MAX_LOSSES * HOLD_MS;
  t.match(takeJobs(newer, 'x', late, 1).taken, [{ id: 'a' }], 'a newer payload is owed its own tries');
  const { lane: end, taken } = takeJobs(lane, 'x', late, 1);
  t.same(taken, []);
  t.match(jobOf(end, 'a'), { state: 'dead', error: /8 workers went away/, endedAtMs: late });
  t.equal(jobOf(retryJob(end, 'a', late), 'a').losses, undefined);

  // Who gives a job back, or fails it, did not go away with it.
  lane = addJob<string>(undefined, one('a'), 0).lane;
  for (let n = 0; n < 2 * MAX_LOSSES; n += 1) lane = releaseJob(takeJobs(lane, 'x', 0, 1).lane, 'a', 'x', 0);
  t.match(jobOf(lane, 'a'), { state: 'waiting', losses: undefined });
});

t.test('cancel, retry and release', async (t) => {
  const taken = takeJobs(addJob<string>(undefined, one('a', 'k'), 0).lane, 'x', 0, 1).lane;
  const cancelled = cancelJob(taken, 'a', 5);
  t.match(jobOf(cancelled, 'a'), { state: 'cancelled', endedAtMs: 5 });
  t.notOk(renewJob(cancelled, 'a', 'x', 6).isHeld);
  t.equal(cancelJob(cancelled, 'a', 7), cancelled);
  const done = finishJob(taken, 'a', 'x', 6, 'r');
  t.throws(() => cancelJob(done, 'a', 7), { code: 'JOB_ENDED', message: /ended already: it is done/ });
  const newer = addJob(cancelled, one('b', 'k'), 8).lane;
  t.throws(() => retryJob(newer, 'a', 9), { code: 'JOB_REPLACED' });
  t.throws(() => retryJob(newer, 'nobody', 9), { code: 'JOB_UNKNOWN' });
  t.throws(() => cancelJob(undefined, 'nobody', 9), { code: 'JOB_UNKNOWN' });
  t.match(jobOf(releaseJob(taken, 'a', 'x', 3), 'a'), { state: 'waiting', notBeforeMs: 3, tries: 0 });
  t.equal(retryJob(taken, 'a', 3), taken, 'a running job is not begun again');
});

t.test('a lane has its limits', async (t) => {
  let lane: JobLane<string> | undefined;
  for (let index = 0; index < MAX_OPEN; index += 1) ({ lane } = addJob(lane, one(`j${index}`), index));
  t.throws(() => addJob(lane, one('more'), 0), { code: 'OVERLOADED' });
  for (let index = 0; index < MAX_OPEN; index += 1) lane = cancelJob(lane, `j${index}`, index);
  t.equal(lane!.jobs.length, 100);
  t.equal(lane!.jobs[0]?.id, 'j100', 'the oldest ends go first');
});

t.test('open jobs with very long names are refused before the register is full', async (t) => {
  const long = 'n'.repeat(30_000);
  let lane: JobLane<string> | undefined;
  for (const id of ['a', 'b', 'c']) ({ lane } = addJob(lane, one(id, id, long), 0));
  t.doesNotThrow(() => addJob(lane, one('d', 'd', 'short'), 1));
  ({ lane } = addJob(lane, one('d', 'd', long), 1));
  const full = { code: 'OVERLOADED', message: 'too many jobs wait; try again later' };
  t.throws(() => addJob(lane, one('e', 'e', long), 2), full);
  t.throws(() => addJob(lane, one('e', 'd', long.repeat(2)), 2), full, 'a newer payload needs room as well');
  const cancelled = cancelJob(lane, 'a', 3);
  const refilled = addJob(cancelled, one('e', 'e', long), 4).lane;
  t.throws(() => retryJob(refilled, 'a', 5), full, 'and one that is to run again');
});

t.test('only jobs whose turn it is are taken', async (t) => {
  let lane: JobLane<string> | undefined;
  for (const id of ['a', 'b', 'c']) ({ lane } = addJob(lane, one(id), 0));
  const { taken } = takeJobs(lane, 'x', 1, 5, new Set(['c', 'a', 'gone']));
  t.same(
    taken.map(({ id }) => id),
    ['a', 'c'],
  );
  t.same(takeJobs(lane, 'x', 1, 5, new Set()).taken, []);
});

t.test('nobody fills a lane alone', async (t) => {
  const ownerOf = (key: string): string => key.split('/')[0]!;
  let lane: JobLane<string> | undefined;
  let count = 0;
  /** How many more are taken in until the next one is refused. */
  const fill = (owner: string): number => {
    for (let taken = 0; ; taken += 1) {
      count += 1;
      try {
        ({ lane } = addJob(lane, one(`j${count}`, `${owner}/${count}`), 0, { ownerOf }));
      } catch (error) {
        t.match(error, { code: 'OVERLOADED', message: `too many jobs of ${owner} wait; try again later` });
        return taken;
      }
    }
  };
  t.equal(fill('a'), MAX_OPEN / 2);
  t.equal(fill('b'), MAX_OPEN / 4);
  t.equal(fill('c'), MAX_OPEN / 8);
  lane = cancelJob(lane, 'j1', 1);
  t.equal(fill('a'), 0, 'who has most waits until others are done');
  t.equal(fill('d'), 13);
});

t.test('model: nothing that was taken in is lost, no job has two holders, ends stay ends', async () => {
  const step = fc.oneof(
    fc.record({
      do: fc.constant('add' as const),
      key: fc.constantFrom('k1', 'k2', 'k3'),
      payload: fc.nat(5),
    }),
    fc.record({
      do: fc.constantFrom(
        'take',
        'renew',
        'finish',
        'fail',
        'release',
        'cancel',
        'retry',
        'wait',
      ) as fc.Arbitrary<string>,
      holder: fc.constantFrom('x', 'y'),
      at: fc.nat(5),
    }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let lane: JobLane<number> = { jobs: [] };
      let nowMs = 0;
      let ids = 0;
      /** Newest payload that was acknowledged for a key, while a job of it is owed. */
      const owed = new Map<string, number>();
      for (const each of steps) {
        nowMs += 1;
        if ('key' in each) {
          ids += 1;
          ({ lane } = addJob(lane, { id: `j${ids}`, key: each.key, payload: each.payload }, nowMs));
          owed.set(each.key, each.payload);
        } else {
          const id = lane.jobs[each.at]?.id ?? 'none';
          const before = lane.jobs.find((job) => job.id === id);
          if (each.do === 'wait') nowMs += HOLD_MS;
          if (each.do === 'take') {
            lane = takeJobs(lane, each.holder, nowMs, 2).lane;
            for (const job of lane.jobs)
              if (job.state === 'dead' && job.losses === MAX_LOSSES && job.endedAtMs === nowMs)
                owed.delete(job.key);
          }
          if (each.do === 'renew') lane = renewJob(lane, id, each.holder, nowMs).lane;
          if (each.do === 'release') lane = releaseJob(lane, id, each.holder, nowMs);
          if (each.do === 'finish') lane = finishJob(lane, id, each.holder, nowMs, before?.payload);
          if (each.do === 'fail') lane = failJob(lane, id, each.holder, nowMs, { ...failure, chance: 0 });
          try {
            if (each.do === 'cancel') lane = cancelJob(lane, id, nowMs);
            if (each.do === 'retry') lane = retryJob(lane, id, nowMs);
          } catch (error) {
            if (!isCoded(error)) throw error;
          }
          const after = lane.jobs.find((job) => job.id === id);
          if (after !== undefined && before !== undefined && isOpen(before) && !isOpen(after))
            owed.delete(after.key);
          if (after !== undefined && before !== undefined && !isOpen(before) && isOpen(after))
            owed.set(after.key, after.payload);
        }
        for (const [key, payload] of owed) {
          const open = lane.jobs.filter((job) => job.key === key && isOpen(job));
          if (open.length !== 1) throw new Error(`${open.length} open jobs of ${key}`);
          if ((open[0]!.next ?? open[0]!.payload) !== payload)
            throw new Error(`the newest payload of ${key} is lost`);
        }
        for (const job of lane.jobs)
          if ((job.state === 'running') !== (job.holder !== undefined))
            throw new Error(`${job.state} with ${job.holder}`);
      }
    }),
    { numRuns: 2_000 },
  );
});
