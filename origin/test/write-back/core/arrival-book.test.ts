import t from 'tap';
import { ArrivalBook } from '../../../src/write-back/core/arrival-book.ts';

const DAY_MS = 24 * 3_600_000;

/** The record, some of whose blobs have come; returns when which of them was seen. */
function rounds(record: readonly string[], hasCome: (digest: string) => boolean, known: number, ms: number) {
  const book = new ArrivalBook<string>({ maxKnown: known });
  const left = new Set(record);
  const seen = new Map<string, number>();
  let asked = 0;
  let most = 0;
  for (let nowMs = 0; nowMs < ms; nowMs += 2_000) {
    const from = book.readFrom(nowMs);
    if (from !== undefined) {
      const listed = [...left].filter((one) => from.after === undefined || one > from.after);
      if (listed.every((one) => book.read(one, 1, nowMs))) book.readToEnd(from.after === undefined);
    }
    most = Math.max(most, book.size);
    for (const digest of book.due(nowMs)) {
      if (!book.mayLook(digest, nowMs)) continue;
      asked += 1;
      if (hasCome(digest)) {
        book.done(digest);
        left.delete(digest);
        seen.set(digest, nowMs);
      } else book.notYet(digest, nowMs);
    }
  }
  return { seen, asked, most };
}

const name = (at: number): string => String(at).padStart(6, '0');

t.test('blobs that never come hold up no others, however many', async (t) => {
  const record = Array.from({ length: 1_000 }, (_, at) => name(at));
  const isGood = (digest: string): boolean => Number(digest) % 100 === 99;
  const { seen, asked, most } = rounds(record, isGood, 40, DAY_MS);
  t.equal(seen.size, 10, 'each that has come is seen within a day');
  t.ok(most <= 40);
  t.ok(asked < 1_000 * 20, `the registry is asked ${asked} times in a day`);
});

t.test('where all fit, each is looked for, ever less often, and none is dropped', async (t) => {
  const record = Array.from({ length: 15 }, (_, at) => name(at));
  const tries = new Map<string, number>();
  const hasCome = (digest: string): boolean => {
    tries.set(digest, (tries.get(digest) ?? 0) + 1);
    return digest === name(3) && tries.get(digest) === 15;
  };
  const { seen, asked } = rounds(record, hasCome, 40, DAY_MS);
  t.same([...seen.keys()], [name(3)], 'also one that took long');
  t.equal(tries.size, 15);
  t.ok(asked < 15 * 40, `${asked} questions in a day`);
});

t.test('a newcomer is looked for at once, beside a full round of others', async (t) => {
  const book = new ArrivalBook<string>({ maxKnown: 10 });
  t.same(book.readFrom(0), { after: undefined });
  const took = Array.from({ length: 9 }, (_, at) => name(at)).filter((one) => book.read(one, 1, 0));
  t.equal(took.length, 4, 'half is for newcomers');
  book.added('new', 1, 0);
  t.ok(book.due(0).includes('new'));
  t.equal(book.readFrom(1_000), undefined, 'no room');
});

t.test('a newcomer for whom there is no room waits on record, and is read from there', async (t) => {
  const book = new ArrivalBook<string>({ maxKnown: 2 });
  book.readToEnd(true);
  for (const digest of ['a', 'b']) book.added(digest, 1, 0);
  t.equal(book.readFrom(0), undefined, 'all that is on record is known');
  book.added('c', 1, 0);
  t.same(book.due(0), ['a', 'b']);
  for (const digest of ['a', 'b']) book.done(digest);
  t.same(book.readFrom(0), { after: undefined });
});

t.test(
  'a registry that does not answer says nothing of a blob: it is asked again after a pause',
  async (t) => {
    const book = new ArrivalBook<string>({ maxKnown: 4 });
    t.equal(book.nextMs(0), undefined);
    book.added('a', 1, 0);
    t.equal(book.nextMs(0), 0, 'due at once');
    for (let failures = 0; failures < 20; failures++) book.failed('a', 0);
    t.equal(book.size, 1, 'however often, it is not given up');
    t.same(book.due(0), []);
    t.equal(book.nextMs(0), 3_600_000);
    t.same(book.due(3_600_000), ['a']);
  },
);

t.test('a newcomer is looked for often before it makes room for others', async (t) => {
  const book = new ArrivalBook<string>({ maxKnown: 2 });
  book.added('a', 1, 0);
  for (let looks = 1; looks < 12; looks++) {
    book.notYet('a', 0);
    t.equal(book.size, 1, `after look ${looks}`);
  }
  book.notYet('a', 0);
  t.equal(book.size, 0);
  t.same(book.readFrom(0), { after: undefined }, 'its turn comes again from record');
});
