import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { isOpen, type Job, type JobLane } from '../../../src/jobs/core/job.ts';
import { addJob, failJob, finishJob, renewJob, takeJobs } from '../../../src/jobs/core/job-lane.ts';
import { fitted, MAX_LANE_BYTES } from '../../../src/jobs/core/lane-room.ts';

const bytesOf = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));
const ended = (id: string, endedAtMs: number, result: unknown): Job<string> => ({
  ...{ id, key: id, payload: 'p', state: 'done', addedAtMs: 0, notBeforeMs: 0, tries: 0, endedAtMs, result },
});

t.test('the jobs that ended longest ago make room', async (t) => {
  const jobs = Array.from({ length: 100 }, (_, at) => ended(`j${at}`, at, 'r'.repeat(4_000)));
  const { jobs: kept } = fitted({ jobs });
  t.ok(kept.length > 50 && kept.length < 60, `${kept.length}`);
  t.equal(kept.at(-1)?.id, 'j99');
  t.ok(bytesOf({ jobs: kept }) <= MAX_LANE_BYTES + 20);
  const lane = { jobs: jobs.slice(0, 3) };
  t.same(fitted(lane), lane, 'a short one stays as it is');
});

t.test('an end of which nobody knows when it was makes room first', async (t) => {
  const jobs = Array.from({ length: 60 }, (_, at) => ended(`j${at}`, at + 1, 'r'.repeat(4_000)));
  const undated = jobs.map((job, at) => {
    const { endedAtMs: _ended, ...rest } = job;
    return at % 20 === 10 ? rest : job;
  });
  const kept = fitted({ jobs: undated }).jobs.map(({ id }) => id);
  for (const id of ['j10', 'j30', 'j50']) t.notOk(kept.includes(id), id);
  t.ok(kept.includes('j49'));
});

t.test('what open jobs noted goes once no ended job is left to go, and no open job does', async (t) => {
  let lane: JobLane<string> = { jobs: [ended('old', 1, 'r')] };
  for (let at = 0; at < 10; at += 1)
    lane = addJob(lane, { id: `j${at}`, key: `k${at}`, payload: 'p' }, at).lane;
  lane = takeJobs(lane, 'x', 20, 10).lane;
  for (let at = 0; at < 7; at += 1) lane = renewJob(lane, `j${at}`, 'x', 30, 'n'.repeat(30_000)).lane;
  t.match(fitted(lane).jobs[1], { id: 'j0', progress: /^n{30000}$/ }, 'seven notes still fit');
  lane = renewJob(lane, 'j7', 'x', 40, 'n'.repeat(30_000)).lane;
  const { jobs } = fitted(lane);
  t.same(
    jobs.map(({ id, state, holder, progress }) => [id, state, holder, progress]),
    Array.from({ length: 10 }, (_, at) => [`j${at}`, 'running', 'x', undefined]),
  );
});

t.test('what is too long for one job is cut, and said', async (t) => {
  const long = ended('a', 1, { lost: ['x'.repeat(20_000)] });
  const [job] = fitted({ jobs: [long] }).jobs;
  t.match(job, { state: 'done', error: /too long/ });
  t.notOk('result' in job!);
  const { error, result: _result, ...failed } = { ...ended('b', 1, 0), error: 'e'.repeat(4_000) };
  t.equal(fitted({ jobs: [{ ...failed, error }] }).jobs[0]?.error?.length, 1_001);
  const most = { jobs: [ended('c', 1, 'r'.repeat(16 * 1024 - 2)), { ...failed, error: 'e'.repeat(1_000) }] };
  t.same(fitted(most), most, 'what is just as long as may be stays');
  t.notOk('result' in fitted({ jobs: [ended('c', 1, 'r'.repeat(16 * 1024 - 1))] }).jobs[0]!);
});

t.test(
  'property: whatever jobs have to say, a lane fits into its register and no open job is lost',
  async () => {
    const step = fc.record({
      do: fc.constantFrom('add', 'add', 'add', 'take', 'renew', 'finish', 'fail', 'die'),
      at: fc.nat(300),
      bytes: fc.constantFrom(10, 500, 5_000),
      text: fc.constantFrom('a', '"', '\u0000', 'ü', '\u{1f642}'),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 150, maxLength: 300, size: 'max' }), (steps) => {
        let lane: JobLane<string> = { jobs: [] };
        for (const [index, { do: what, at, bytes, text }] of steps.entries()) {
          const said = text.repeat(bytes);
          const id = lane.jobs[at % Math.max(1, lane.jobs.length)]?.id ?? 'none';
          const rules = { firstMs: 0, maxMs: 0, tries: 9 };
          const open = lane.jobs.filter(isOpen).length;
          let next = lane;
          try {
            // Names are bounded where they come in: a tag and a repository have 128 and 255 characters at most.
            const key = `k${index}${'n'.repeat(Math.min(bytes, 600))}`;
            if (what === 'add')
              ({ lane: next } = addJob(lane, { id: `j${index}`, key, payload: key }, index));
          } catch (error) {
            if (!isCoded(error, 'OVERLOADED')) throw error;
          }
          if (what === 'take') next = takeJobs(lane, 'x', index, 5).lane;
          if (what === 'renew') next = renewJob(lane, id, 'x', index, said).lane;
          if (what === 'finish') next = finishJob(lane, id, 'x', index, said);
          if (what === 'fail' || what === 'die')
            next = failJob(lane, id, 'x', index, { error: said, isFinal: what === 'die', chance: 0, rules });
          const before = next.jobs.filter(isOpen).length;
          lane = fitted(next);
          if (bytesOf(lane) > MAX_LANE_BYTES + 20) throw new Error(`${bytesOf(lane)} bytes`);
          if (lane.jobs.filter(isOpen).length !== before) throw new Error('an open job is lost');
          if (what === 'add' && before < open) throw new Error('an open job is lost');
        }
      }),
      { numRuns: 4 },
    );
  },
);
