import { CodedError } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { contentRange, isResume, MAX_RANGES, parseRange, rangeWish } from '../src/range.ts';

const single = (start: number, end: number, openEnded = false) => ({
  type: 'single',
  range: { start, end },
  openEnded,
});

t.test('one range: bounded, open-ended, suffix, shortened', async (t) => {
  t.same(parseRange('bytes=0-0', 10), single(0, 0));
  t.same(parseRange('bytes=3-5', 10), single(3, 5));
  t.same(parseRange('bytes=3-', 10), single(3, 9, true));
  t.same(parseRange('bytes=0-', 10), single(0, 9, true));
  t.same(parseRange('bytes=-4', 10), single(6, 9));
  t.same(parseRange('bytes=-40', 10), single(0, 9));
  t.same(parseRange('bytes=3-99', 10), single(3, 9));
  t.same(parseRange(' Bytes = 3-5 ', 10), single(3, 5));
});

t.test('several ranges, of which those that overlap the body count', async (t) => {
  t.same(parseRange('bytes=0-1, 4-5,-1', 10), {
    type: 'several',
    ranges: [
      { start: 0, end: 1 },
      { start: 4, end: 5 },
      { start: 9, end: 9 },
    ],
  });
  t.same(parseRange('bytes=0-1,20-30', 10), single(0, 1));
  t.same(parseRange('bytes=20-,4-', 10), single(4, 9, true), 'what is left decides whether the end is open');
  t.same(parseRange('bytes=4-,20-21', 10), single(4, 9, true));
});

t.test('empty elements of the list count for nothing', async (t) => {
  t.same(parseRange('bytes=0-5,', 10), single(0, 5));
  t.same(parseRange('bytes=, ,3-,', 10), single(3, 9, true));
  t.same(parseRange('bytes=,', 10), { type: 'whole' });
  t.throws(() => parseRange(`bytes=${','.repeat(MAX_RANGES)}0-1`, 10), { code: 'REQUEST_INVALID' });
});

t.test('what is not understood is ignored', async (t) => {
  for (const header of [
    undefined,
    '',
    'items=0-1',
    'bytes',
    'bytes=',
    'bytes=-',
    'bytes=5-3',
    'bytes=a-b',
    'bytes=1-2-3',
    'bytes=1',
    'bytes=-1-2',
  ]) {
    t.same(parseRange(header, 100), { type: 'whole' }, String(header));
  }
});

t.test('more ranges than a lazy client may ask at once are refused, never the whole body', async (t) => {
  const many = `bytes=${Array.from({ length: MAX_RANGES + 1 }, (_, index) => `${index}-${index}`).join(',')}`;
  t.throws(() => parseRange(many, 100), { code: 'REQUEST_INVALID', facts: { status: 400 } });
  t.equal(parseRange(many.slice(0, many.lastIndexOf(',')), 100).type, 'several');
  t.throws(() => rangeWish(many), { code: 'REQUEST_INVALID' }, 'also before the blob is looked for');
});

t.test('what a request wants before the blob is looked for', async (t) => {
  t.same(rangeWish(''), { want: 'all' });
  t.same(rangeWish('bytes=7-'), { want: 'all' }, 'an open end resumes a whole download');
  t.same(rangeWish('items=1-2'), { want: 'all' }, 'what is ignored means the whole');
  t.same(rangeWish('bytes=7-9'), { want: 'ranges', start: 7 });
  t.same(rangeWish('bytes=7-9,1-2'), { want: 'ranges', start: 7 });
  t.same(rangeWish('bytes=-51'), { want: 'ranges' }, 'a suffix needs the size');
  t.same(rangeWish('bytes=-5,0-1'), { want: 'ranges' }, 'nor does another range say where it begins');
  t.same(rangeWish('bytes=, -5,0-1'), { want: 'ranges' });
  t.same(rangeWish('bytes=3-4,-5'), { want: 'ranges', start: 3 });
  t.same(rangeWish('bytes=-0'), { want: 'ranges' });
  t.same(rangeWish('bytes=-5,0-1', 1_000), { want: 'ranges', start: 995 });
  t.same(rangeWish('bytes=-51', 1_000), { want: 'ranges', start: 949 });
  t.same(rangeWish('bytes=7-9', 5), { want: 'ranges' }, 'outside of the blob: nothing is fetched');
});

t.test('a range outside the body is refused', async (t) => {
  for (const [header, sizeBytes] of [
    ['bytes=10-', 10],
    ['bytes=10-20', 10],
    ['bytes=-0', 10],
    ['bytes=20-,30-', 10],
  ] as const) {
    t.throws(() => parseRange(header, sizeBytes), { code: 'RANGE_INVALID', detail: { sizeBytes } }, header);
  }
});

t.test('of an empty body every range is all of it', async (t) => {
  for (const header of ['bytes=0-', 'bytes=0-1023', 'bytes=-5', 'bytes=-0', 'bytes=7-9', 'bytes=0-0,2-3']) {
    t.same(parseRange(header, 0), { type: 'whole' }, header);
    t.same(rangeWish(header, 0), { want: 'all' }, header);
  }
});

t.test('Content-Range', async (t) => {
  t.equal(contentRange({ start: 3, end: 5 }, 10), 'bytes 3-5/10');
});

t.test('a range selects the same bytes as cutting them by hand', async (t) => {
  const spec = fc.oneof(
    fc
      .tuple(fc.nat(30), fc.nat(30))
      .map(([a, b]) => [`${Math.min(a, b)}-${Math.max(a, b)}`, Math.min(a, b), Math.max(a, b) + 1] as const),
    fc.nat(30).map((a) => [`${a}-`, a, Infinity] as const),
    fc.nat(30).map((n) => [`-${n}`, -n, Infinity] as const),
  );
  fc.assert(
    fc.property(fc.array(spec, { minLength: 1, maxLength: MAX_RANGES }), fc.nat(25), (specs, sizeBytes) => {
      const body = Array.from({ length: sizeBytes }, (_, index) => index);
      const cut = specs.map(([, from, to]) => body.slice(from, to));
      const expected = specs
        .map(([text], index) => (text === '-0' ? [] : cut[index]!))
        .filter((part) => part.length > 0);
      const header = `bytes=${specs.map(([text]) => text).join(',')}`;
      let found: number[][];
      try {
        const asked = parseRange(header, sizeBytes);
        const ranges = asked.type === 'several' ? asked.ranges : asked.type === 'single' ? [asked.range] : [];
        found = ranges.map(({ start, end }) => body.slice(start, end + 1));
      } catch (error) {
        found = (error as CodedError).code === 'RANGE_INVALID' ? [] : [[-1]];
      }
      return JSON.stringify(found) === JSON.stringify(expected);
    }),
    { numRuns: 3000 },
  );
  t.pass('held');
});

t.test('never an uncoded throw', async (t) => {
  const piece = fc.constantFrom('bytes', '=', '-', ',', ' ', '0', '9', '99999999999999999999', 'x', '\t');
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(piece).map((parts) => `bytes=${parts.join('')}`),
      ),
      fc.nat(),
      (header, sizeBytes) => {
        try {
          const asked = parseRange(header, sizeBytes);
          const ranges =
            asked.type === 'single' ? [asked.range] : asked.type === 'several' ? asked.ranges : [];
          return ranges.every(({ start, end }) => start >= 0 && start <= end && end < sizeBytes);
        } catch (error) {
          return error instanceof CodedError && error.code === 'RANGE_INVALID';
        }
      },
    ),
    { numRuns: 5000 },
  );
  t.pass('held');
});

t.test('a single range without an end that does not begin at 0 resumes', async (t) => {
  for (const header of ['bytes=1-', ' Bytes = 20- ', 'bytes=010-']) t.equal(isResume(header), true, header);
  for (const header of ['', 'bytes=0-', 'bytes=00-', 'bytes=1-2', 'bytes=-5', 'bytes=1-,5-', 'lines=1-'])
    t.equal(isResume(header), false, header);
});
