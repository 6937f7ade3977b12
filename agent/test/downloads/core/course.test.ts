import { digestOf } from '@sepia/base/digest';
import { FINAL_ATTEMPT, firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { checkModel, type Step, same } from '@sepia/test-support/model';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Course, FIND_AGAIN_MS, isFar, worthOf } from '../../../src/downloads/core/course.ts';

const DIGEST = digestOf(Buffer.from('x'));
const PIECES = 8;
const LIMITS = { progressMs: 1_000, stallMs: 5_000 };
const RANGES_IDLE_MS = 60_000;
const MAX_FIND_MS = 3_600_000;

function open(known: readonly number[]): Metainfo {
  const metainfo = Metainfo.open(DIGEST, PIECES * 2 ** 20, firstAttempt(DIGEST));
  for (const index of known) metainfo.addHash(index, Buffer.alloc(32, index));
  return metainfo;
}

t.test('a piece is far if it neither comes by itself nor is known', async (t) => {
  const metainfo = open([0, 1, 7]);
  t.ok(isFar(metainfo, 2, false), 'what readers cover alone is fetched');
  t.notOk(isFar(metainfo, 6, true), 'within four of the front');
  t.notOk(isFar(metainfo, 7, false), 'its hash is known');
  t.ok(isFar(open([]), 5, true));
  t.notOk(isFar(Metainfo.final(DIGEST, 2 ** 20, Buffer.alloc(32)), 0, false));
});

t.test('a piece that an origin vouches for counts within its attempt', async (t) => {
  const metainfo = open([]);
  t.equal(worthOf(metainfo, metainfo.attempt), 'ours');
  t.equal(worthOf(metainfo, FINAL_ATTEMPT), 'ours');
  t.equal(worthOf(metainfo, '1'.repeat(32)), 'other');
  t.equal(worthOf(Metainfo.final(DIGEST, 2 ** 20, Buffer.alloc(32)), FINAL_ATTEMPT), 'late');
});

t.test('a download that failed while its whole was checked stays failed', async (t) => {
  const course = new Course(LIMITS, 0);
  t.ok(course.mayFinish(true, true));
  t.ok(course.fail(new Error('stopped')));
  t.notOk(course.finish());
  t.equal(course.state, 'failed');
});

/** What a download must do, as plainly as can be. */
interface Model {
  nowMs: number;
  state: 'running' | 'final' | 'failed';
  isFinishing: boolean;
  isLooking: boolean;
  /** What a look found is judged before the next one. */
  hasNews: boolean;
  hasBegun: boolean;
  progressMs: number;
  lookedMs: number;
  fetchedBytes: number;
  isWanted: boolean;
  dueMs: number;
}

type CourseStep = Step<Model, Course>;

const simple = (name: string, run: CourseStep['run']): fc.Arbitrary<CourseStep> => fc.constant({ name, run });

const STEPS: fc.Arbitrary<CourseStep>[] = [
  fc.constantFrom(1, 199, 1_000, 5_000, 61_000).map((ms) => ({
    name: `after ${ms} ms`,
    run: (model) => {
      model.nowMs += ms;
    },
  })),
  simple('a piece lands', (model, course) => {
    course.progress(model.nowMs);
    model.progressMs = model.nowMs;
  }),
  simple('somebody reads', (model, course) => {
    course.begun();
    model.hasBegun = true;
  }),
  fc
    .record({ audience: fc.constantFrom('reads', 'may come', 'left'), isOpen: fc.boolean() })
    .map(({ audience, isOpen }) => ({
      name: `tick, ${isOpen ? 'open' : 'final'}, audience ${audience}`,
      run: (model, course) => {
        const readers = { idle: audience !== 'reads', left: audience === 'left' };
        same(course.next(readers, isOpen, model.nowMs), wanted(model, audience, isOpen), 'step');
      },
    })),
  fc.nat(3).map((bytes) => ({
    name: `a look finds ${bytes} bytes`,
    run: (model, course) => {
      if (!model.isLooking) return;
      course.looked(bytes, model.nowMs);
      if (bytes > model.fetchedBytes) model.progressMs = model.nowMs;
      model.fetchedBytes = Math.max(bytes, model.fetchedBytes);
      Object.assign(model, { isLooking: false, hasNews: true, lookedMs: model.nowMs });
    },
  })),
  fc.tuple(fc.boolean(), fc.boolean()).map(([isComplete, isFinal]) => ({
    name: `all there: ${isComplete}, proven: ${isFinal}`,
    run: (model, course) => {
      const may = model.state === 'running' && !model.isFinishing && isComplete && isFinal;
      same(course.mayFinish(isComplete, isFinal), may, 'mayFinish');
      model.isFinishing ||= may;
    },
  })),
  simple('the whole is right', (model, course) => {
    if (!model.isFinishing) return;
    same(course.finish(), model.state === 'running', 'finish');
    if (model.state === 'running') model.state = 'final';
  }),
  simple('it fails', (model, course) => {
    same(course.fail(new Error('failed')), model.state === 'running', 'fail');
    if (model.state === 'running') model.state = 'failed';
  }),
  simple('peers are wanted', (model, course) => {
    course.want();
    model.isWanted = true;
  }),
  fc.constantFrom(-1, 0, 3_000, 1e12, Number.NaN).map((intervalMs) => ({
    name: `peers were asked for; again after ${intervalMs} ms`,
    run: (model, course) => {
      course.asked();
      course.pause(intervalMs, model.nowMs);
      model.isWanted = false;
      const bounded = Number.isNaN(intervalMs) ? FIND_AGAIN_MS : intervalMs;
      model.dueMs = model.nowMs + Math.min(MAX_FIND_MS, Math.max(FIND_AGAIN_MS, bounded));
    },
  })),
];

/** What a look at the download must come to, and what it leaves behind. */
function wanted(model: Model, audience: string, isOpen: boolean): ReturnType<Course['next']> {
  if (model.state !== 'running') return 'wait';
  const silentMs = model.nowMs - model.progressMs;
  if (audience !== 'reads') return audience === 'left' && silentMs > RANGES_IDLE_MS ? 'end' : 'wait';
  if (model.isLooking) return 'wait';
  const sinceMs = model.nowMs - Math.max(model.progressMs, model.lookedMs);
  if (isOpen && !model.hasNews && sinceMs >= LIMITS.progressMs / 5) {
    model.isLooking = true;
    return 'look';
  }
  model.hasNews = false;
  return silentMs > (model.hasBegun ? LIMITS.stallMs : LIMITS.progressMs) ? 'give-up' : 'wait';
}

t.test('a download takes the course that the model says', async (t) => {
  checkModel<Model, Course>(t, {
    steps: STEPS,
    start: () => ({
      model: {
        nowMs: 0,
        state: 'running',
        isFinishing: false,
        isLooking: false,
        hasNews: false,
        hasBegun: false,
        progressMs: 0,
        lookedMs: 0,
        fetchedBytes: 0,
        isWanted: false,
        dueMs: 0,
      },
      real: new Course(LIMITS, 0),
    }),
    invariant: (model, course) => {
      same(course.state, model.state, 'state');
      same(course.error !== undefined, model.state === 'failed', 'there is an error');
      same(course.silentMs(model.nowMs), model.nowMs - model.progressMs, 'silence');
      same(course.isFindDue(model.nowMs), model.isWanted || model.nowMs >= model.dueMs, 'isFindDue');
    },
    runs: 500,
  });
});
