import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { FetchPace } from '../../../src/fetch/core/fetch-pace.ts';
import { advanceOf } from '../../../src/fetch/core/fetch-retry.ts';

const OPTIONS = { progressMs: 10_000, firstByteMs: 60_000, lingerMs: 60_000 };
const CUT = { code: 'BACKEND_DOWN' } as const;

interface Course {
  readonly ended: 'whole' | 'given up';
  readonly connections: number;
  readonly waitedMs: number;
  readonly waits: readonly number[];
}

/** A blob of `sizeBytes` on a virtual clock; each connection is cut after the bytes that `brings` tells. */
function fetchOf(sizeBytes: number, brings: (missingBytes: number) => number, isRanged = true): Course {
  const pace = new FetchPace(OPTIONS, 0);
  const waits: number[] = [];
  let [nowMs, kept] = [0, 0];
  while (waits.length < 10_000) {
    const bytes = brings(isRanged ? sizeBytes - kept : sizeBytes);
    if (bytes > 0) pace.progress(bytes, nowMs);
    kept = isRanged ? kept + bytes : Math.max(kept, bytes);
    if (kept >= sizeBytes) break;
    const facts = { avoiding: false, came: bytes > 0, keptBytes: kept, missingBytes: sizeBytes - kept };
    const next = pace.failed(CUT, facts, nowMs);
    if (next.type !== 'retry') break;
    waits.push(next.inMs);
    nowMs += next.inMs;
    if (pace.tick({ hungry: true, readers: 1, avoiding: false, thinking: false }, nowMs) === 'late') break;
  }
  const ended = kept >= sizeBytes ? 'whole' : 'given up';
  return { ended, connections: waits.length + 1, waitedMs: nowMs, waits };
}

t.test(
  'an upstream that cuts every connection at a share of what was asked is resumed at once',
  async (t) => {
    const course = fetchOf(3_300_000, (missing) => Math.max(1, Math.floor(missing * 0.4)));
    t.equal(course.ended, 'whole');
    t.equal(course.waitedMs, 0, `${course.connections} connections`);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 40 }),
        fc.double({ min: 0.15, max: 1, noNaN: true }),
        (size, share) => {
          const { ended, waitedMs } = fetchOf(size, (missing) => Math.ceil(missing * share));
          return ended === 'whole' && waitedMs === 0;
        },
      ),
    );
  },
);

t.test(
  'one that sends little before each cut is asked again after a short pause that never grows',
  async (t) => {
    const course = fetchOf(1_000_000, () => 1_000);
    t.equal(course.ended, 'whole');
    t.same([...new Set(course.waits.slice(0, 900))], [100]);
  },
);

t.test('pauses grow only where no byte comes, and end with the time without progress', async (t) => {
  const silent = fetchOf(1_000_000, () => 0);
  t.equal(silent.ended, 'given up');
  t.same(silent.waits.slice(0, 6), [100, 200, 400, 800, 1_600, 2_000]);
  let turn = 0;
  const mixed = fetchOf(1_000_000, () => (turn++ % 3 === 2 ? 100_000 : 0));
  t.equal(mixed.ended, 'whole');
  t.same(mixed.waits.slice(0, 9), [100, 200, 0, 200, 400, 0, 200, 400, 0], 'progress ends a row of failures');
});

t.test('bytes that were here before are no progress: their connections are counted', async (t) => {
  const course = fetchOf(3_300_000, (whole) => Math.floor(whole * 0.4), false);
  t.equal(course.ended, 'given up');
  t.equal(course.connections, 9, 'the first brought something');
  t.same(course.waits, [0, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
});

t.test('what a connection brought on', async (t) => {
  t.equal(advanceOf(0, 100), 'none');
  t.equal(advanceOf(-5, 100), 'none', 'a tail that was lost');
  t.equal(advanceOf(1, 100), 'little');
  t.equal(advanceOf(1, 9), 'much');
  t.equal(advanceOf(65_536, 2 ** 40), 'much');
  t.equal(advanceOf(65_535, 2 ** 40), 'little');
  t.equal(advanceOf(1, Number.POSITIVE_INFINITY), 'little', 'of an unknown size');
});
