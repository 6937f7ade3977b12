import { fc } from '@sepia/test-support/property';
import { SEED } from '@sepia/test-support/seeded';
import t from 'tap';
import { ClockBook } from '../../../src/clock/core/clock-book.ts';

const SURE = { errorMs: 5 };

function bookOf(offsets: Readonly<Record<string, number>>): ClockBook {
  const book = new ClockBook();
  for (const [id, offsetMs] of Object.entries(offsets)) book.note(id, { offsetMs, ...SURE }, 0);
  return book;
}

t.test('clocks that agree move nothing', async (t) => {
  const book = bookOf({ a: 3, b: -8, c: 120 });
  t.equal(book.stepMs(0, 0), 0);
  t.same(book.warnings(0, 0), []);
});

t.test('who is wrong alone follows the others and says so', async (t) => {
  const book = bookOf({ a: -600_000, b: -600_020 });
  t.equal(book.stepMs(0, 0), -600_000);
  t.equal(book.skewMs(0, 0), 600_000);
  t.same(book.warnings(0, 0), [
    'clock skew: the clock of this member is 600 s ahead of those of 2 others; set it right',
  ]);
  t.same(book.warnings(-600_000, 1_000), [], 'it was set right');
  t.equal(book.stepMs(-600_000, 1_000), -600_000, 'which changes nothing of the time that it works in');
});

t.test('one of the others is wrong: the own time stays', async (t) => {
  const book = bookOf({ a: 10, b: 90_000 });
  t.equal(book.stepMs(0, 0), 0);
  t.same(book.warnings(0, 0), ['clock skew: the clock of b is 90 s ahead of the clock here; set it right']);
  t.equal(book.offsetOf('b', 0), 90_000, 'calls to it bear its own date');
});

t.test('of two that differ nobody knows who is right', async (t) => {
  const book = bookOf({ a: -300_000 });
  t.equal(book.stepMs(0, 0), 0);
  t.match(book.warnings(0, 0), [/the clock of a is 300 s behind/]);
});

t.test('machines that were all set are followed once most of them are known to show it', async (t) => {
  const HOUR = 3_600_000;
  const book = bookOf({ a: 0, b: 0, c: 0 });
  const set = (id: string, atMs: number): void =>
    book.note(id, { offsetMs: 0, wallOffsetMs: HOUR, ...SURE }, atMs);
  t.equal(book.stepMs(HOUR, 1), 0, 'the own one alone');
  t.match(book.warnings(HOUR, 1), [/this member is 3600 s ahead/]);
  set('a', 2);
  t.equal(book.stepMs(HOUR, 2), 0, 'half of them: nobody knows who is right, and all stay in one time');
  set('b', 3);
  t.equal(book.stepMs(HOUR, 3), HOUR);
  t.equal(book.offsetOf('b', 3), 0, 'calls to it bear the date that it works in');
  t.same(book.warnings(HOUR, 3), [], 'c was not asked since');
  book.note('c', { offsetMs: 0, errorMs: 4 }, 4);
  t.match(book.warnings(HOUR, 4), [/the clock of c is 3600 s behind the clock here/]);
  set('c', 5);
  t.same(book.warnings(HOUR, 5), []);
});

t.test('that a machine shows another time than it works in is news', async (t) => {
  const book = bookOf({ a: 0 });
  t.notOk(book.isNews('a', { offsetMs: 0, wallOffsetMs: 500, ...SURE }, 1));
  t.ok(book.isNews('a', { offsetMs: 0, wallOffsetMs: -90_000, ...SURE }, 1));
  book.note('a', { offsetMs: 0, wallOffsetMs: -90_000, ...SURE }, 1);
  t.notOk(book.isNews('a', { offsetMs: 0, wallOffsetMs: -90_000, ...SURE }, 2));
  t.ok(book.isNews('a', { offsetMs: 0, ...SURE }, 2), 'it was set right');
});

t.test('with nobody to compare with, the wall clock is followed', async (t) => {
  const book = new ClockBook();
  t.equal(book.stepMs(3_600_000, 0), 3_600_000);
  t.same(book.warnings(3_600_000, 0), []);
});

t.test('slow answers, nonsense and old samples say nothing', async (t) => {
  const book = new ClockBook();
  book.note('slow', { offsetMs: 9_000, errorMs: 4_000 }, 0);
  book.note('odd', { offsetMs: Number.NaN, errorMs: 1 }, 0);
  t.equal(book.skewMs(0, 0), 0);
  book.note('a', { offsetMs: 50_000, ...SURE }, 0);
  t.equal(book.skewMs(0, 600_000), -50_000);
  t.equal(book.skewMs(0, 600_001), 0);
  t.equal(book.offsetOf('a', 600_001), undefined);
});

t.test('a better sample replaces a worse one at once, a clock that was set as well', async (t) => {
  const book = new ClockBook();
  book.note('a', { offsetMs: 800, errorMs: 900 }, 0);
  book.note('a', { offsetMs: 20, errorMs: 4 }, 1);
  book.note('a', { offsetMs: 700, errorMs: 800 }, 2);
  t.equal(book.offsetOf('a', 3), 20);
  book.note('a', { offsetMs: 60_000, errorMs: 800 }, 4);
  t.equal(book.offsetOf('a', 5), 60_000);
});

t.test('a full book takes nobody new in until old samples are forgotten', async (t) => {
  const book = new ClockBook();
  for (let index = 0; index < 4_096; index += 1) book.note(`m${index}`, { offsetMs: 1, ...SURE }, 0);
  book.note('late', { offsetMs: 2, ...SURE }, 600_000);
  t.equal(book.offsetOf('late', 600_000), undefined, 'all others are still believed');
  book.note('m7', { offsetMs: 3, ...SURE }, 600_000);
  t.equal(book.offsetOf('m7', 600_001), 3, 'whom it knows it goes on hearing');
  book.note('late', { offsetMs: 2, ...SURE }, 600_001);
  t.equal(book.offsetOf('late', 600_001), 2);
  t.equal(book.offsetOf('m7', 600_001), 3, 'only the old ones made room');
});

t.test('a minority of wrong clocks never moves the time by more than the right ones differ', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -400, max: 400 }), { minLength: 2, maxLength: 6 }),
      fc.array(fc.integer({ min: -1e9, max: 1e9 }), { maxLength: 6 }),
      (right, wrong) => {
        const few = wrong.slice(0, right.length - 1);
        const book = bookOf(
          Object.fromEntries([...right, ...few].map((offset, index) => [`m${index}`, offset])),
        );
        return Math.abs(book.stepMs(0, 0)) <= 400;
      },
    ),
    { seed: SEED, numRuns: 1_000 },
  );
  t.pass();
});
