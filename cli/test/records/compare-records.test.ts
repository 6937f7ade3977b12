import type { DumpedRecord } from '@sepia/records/store/record-dump';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { differences, meaningOf } from '../../src/records/compare-records.ts';

const record = (key: string, value: unknown, atMs = 1): DumpedRecord => ({
  key,
  stored: { v: 1, atMs, ...(value === undefined ? { deleted: true } : { value }) },
});

async function* listed(records: readonly DumpedRecord[]): AsyncGenerator<DumpedRecord, void, void> {
  yield* records;
}

async function keysThatDiffer(one: readonly DumpedRecord[], other: readonly DumpedRecord[]) {
  const found: string[] = [];
  for await (const key of differences('n1', listed(one), listed(other))) found.push(key);
  return found;
}

t.test('a record means its value, neither ballot nor clock', async (t) => {
  const register = (counter: number, digest: string) => {
    const ballot = { counter, proposer: 'p' };
    return { v: 1, promised: ballot, accepted: ballot, value: { v: 1, value: { digest }, recent: [] } };
  };
  const key = 'tag\0local/app\0v1';
  const [one, same, other] = [register(1, 'a'), register(7, 'a'), register(1, 'b')].map((stored) =>
    meaningOf('r1', { key, stored }),
  );
  t.equal(one, same);
  t.not(one, other);
  t.equal(meaningOf('r1', { key, stored: { v: 1 } }), undefined, 'promised, never written');
  t.equal(meaningOf('l1', record('k', { b: 1, a: 2 }, 5)), meaningOf('l1', record('k', { a: 2, b: 1 }, 6)));
  t.equal(meaningOf('l1', record('k', undefined)), undefined, 'a tombstone');
});

t.test('two sides differ in the keys whose values differ, in the order of their bytes', async () => {
  const keys = ['a', 'a\0b', 'b', 'é', '\uffee', '\u{1f600}'];
  const side = fc
    .array(fc.option(fc.option(fc.integer({ min: 0, max: 1 }), { nil: undefined })), {
      minLength: keys.length,
      maxLength: keys.length,
    })
    .map((values) => new Map(keys.flatMap((key, at) => (values[at] === null ? [] : [[key, values[at]]]))));
  const recordsOf = (values: ReadonlyMap<string, number | undefined>): DumpedRecord[] =>
    keys.filter((key) => values.has(key)).map((key) => record(key, values.get(key)));
  await fc.assert(
    fc.asyncProperty(side, side, async (one, other) => {
      const expected = keys.filter((key) => one.get(key) !== other.get(key));
      const found = await keysThatDiffer(recordsOf(one), recordsOf(other));
      return JSON.stringify(found) === JSON.stringify(expected);
    }),
  );
});
