import { LEAF_BYTES, PIECE_BYTES } from '@sepia/metainfo/tree';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  BUFFER_BYTES,
  bufferFor,
  FIRST_PACE,
  FIRST_READ,
  leafIndex,
  leavesOf,
  mayBorrow,
  mayStayOpen,
  mostAhead,
  type Pace,
  paceAfter,
  type ReadPace,
  readPaceAfter,
  SLOW_READER,
  windowAt,
} from '../../../src/bodies/core/body-windows.ts';

const NONE = { large: 0, usual: 0 };

t.test('windows follow each other through the range; the leaves of each fit the buffer', async (t) => {
  const bytes = fc.nat(3 * PIECE_BYTES);
  const buffer = fc.constantFrom(...Object.values(BUFFER_BYTES));
  fc.assert(
    fc.property(bytes, bytes, fc.nat(LEAF_BYTES), buffer, (one, other, behind, bufferBytes) => {
      const range = { start: Math.min(one, other), end: Math.max(one, other) };
      const sizeBytes = range.end + 1 + behind;
      let at = range.start;
      while (at <= range.end) {
        const window = windowAt(range, at, bufferBytes);
        const leaves = leavesOf(window, sizeBytes);
        const endOfPiece = (window.piece + 1) * PIECE_BYTES;
        if (window.start !== at || window.end <= at || window.end > range.end + 1) return false;
        if (at < window.piece * PIECE_BYTES || window.end > endOfPiece || leaves.end >= endOfPiece)
          return false;
        if (leaves.start % LEAF_BYTES !== 0 || leaves.start > at || at - leaves.start >= LEAF_BYTES)
          return false;
        if ((leaves.end + 1) % LEAF_BYTES !== 0 && leaves.end + 1 !== sizeBytes) return false;
        if (leaves.end + 1 < window.end || leaves.end + 1 - leaves.start > bufferBytes) return false;
        at = window.end;
      }
      return at === range.end + 1;
    }),
  );
  t.pass('held');
});

t.test('a leaf is counted within its piece', async (t) => {
  t.equal(leafIndex(0), 0);
  t.equal(leafIndex(PIECE_BYTES - LEAF_BYTES), PIECE_BYTES / LEAF_BYTES - 1);
  t.equal(leafIndex(5 * PIECE_BYTES + 3 * LEAF_BYTES), 3);
});

function after(writes: number): Pace {
  let pace = FIRST_PACE;
  for (let i = 0; i < writes; i++) pace = paceAfter(pace, 0, LEAF_BYTES);
  return pace;
}

t.test(
  'who took eight writes at once gets large buffers and is read ahead for; one slow write ends it',
  async (t) => {
    t.equal(bufferFor(after(7), NONE), 'usual');
    t.equal(mostAhead(after(7), NONE), 0);
    t.equal(bufferFor(after(8), NONE), 'large');
    t.equal(mostAhead(after(8), NONE), 3);
    const slow = paceAfter(after(8), 26, LEAF_BYTES);
    t.equal(bufferFor(slow, NONE), 'usual');
    t.equal(mostAhead(slow, NONE), 0);
  },
);

t.test('a write is quick within 25 ms, or at 10 MiB/s', async (t) => {
  const isQuick = (tookMs: number, bytes: number): boolean => mayBorrow(paceAfter(FIRST_PACE, tookMs, bytes));
  t.ok(isQuick(25, 1));
  t.notOk(isQuick(26, 1));
  t.ok(isQuick(100, 2 ** 20));
  t.notOk(isQuick(101, 2 ** 20));
});

t.test('memory that others need soon is lent only to who took the last write at once', async (t) => {
  t.notOk(mayBorrow(FIRST_PACE));
  t.ok(mayBorrow(after(1)));
  t.notOk(mayBorrow(paceAfter(after(3), 1_000, 1)));
});

t.test(
  'where the large buffers are lent out a usual one is given, then small ones without end',
  async (t) => {
    t.equal(bufferFor(after(8), { large: 23, usual: 0 }), 'large');
    t.equal(bufferFor(after(8), { large: 24, usual: 127 }), 'usual');
    t.equal(mostAhead(after(8), { large: 11, usual: 0 }), 3);
    t.equal(mostAhead(after(8), { large: 12, usual: 0 }), 1, 'many read: one window each');
    t.equal(mostAhead(after(8), { large: 24, usual: 0 }), 0);
    t.equal(bufferFor(after(8), { large: 24, usual: 128 }), 'small');
    t.equal(bufferFor(FIRST_PACE, { large: 0, usual: 128 }), 'small', 'large ones are not for a slow reader');
  },
);

t.test(
  'a range of another member stays open for a reader that reads on, within the share of a process',
  async (t) => {
    t.ok(mayStayOpen(FIRST_READ, 23));
    t.notOk(mayStayOpen(FIRST_READ, 24));
    t.notOk(mayStayOpen(SLOW_READER, 0));
  },
);

t.test('a slow reader is trusted again after eight reads in a row that followed at once', async (t) => {
  const reads = (gapsMs: readonly number[], from: ReadPace): ReadPace => gapsMs.reduce(readPaceAfter, from);
  const quick = Array.from({ length: 7 }, () => 25);
  t.ok(reads(quick, SLOW_READER).isSlow);
  t.strictSame(reads([...quick, 25], SLOW_READER), FIRST_READ);
  t.ok(reads([...quick, 26, 25], SLOW_READER).isSlow, 'one that was late begins anew');
  t.strictSame(reads([60_000], FIRST_READ), FIRST_READ, 'only a range that was closed makes it slow');
});
