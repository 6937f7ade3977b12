import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { areMade, changesOf } from '../../../../src/table/postgres/core/changes.ts';
import type { Write } from '../../../../src/table/record-table.ts';

const KEYS = ['a', 'b', 'c'] as const;
const text = fc.constantFrom('1', '2');
const write: fc.Arbitrary<Write> = fc.oneof(
  fc.record({ type: fc.constant('put' as const), key: fc.constantFrom(...KEYS), value: text }),
  fc.record({ type: fc.constant('del' as const), key: fc.constantFrom(...KEYS) }),
);
const texts = fc
  .array(fc.option(text, { nil: undefined }), { minLength: 3, maxLength: 3 })
  .map((found) => new Map<string, string | undefined>(KEYS.map((key, at) => [key, found[at]])));

/** One after another, as they stand. */
function written(found: ReadonlyMap<string, string | undefined>, writes: readonly Write[]) {
  const now = new Map(found);
  for (const one of writes) now.set(one.key, one.type === 'put' ? one.value : undefined);
  return now;
}

t.test('changes make what the writes make, each key once and only if it differs', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(texts, fc.array(write, { maxLength: 6 }), (found, writes) => {
        const changes = changesOf(found, writes);
        const made = new Map(found);
        for (const { key, old, value } of changes) {
          if (made.get(key) !== old || old === value) return false;
          made.set(key, value);
        }
        const keys = new Set(changes.map(({ key }) => key));
        const after = written(found, writes);
        return keys.size === changes.length && KEYS.every((key) => made.get(key) === after.get(key));
      }),
    ),
  );
});

t.test('a change is made if every text is the one that it leaves', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(texts, fc.array(write, { maxLength: 6 }), texts, (found, writes, other) => {
        const changes = changesOf(found, writes);
        const after = written(found, writes);
        const isSame = changes.every(({ key }) => other.get(key) === after.get(key));
        return areMade(changes, after) && areMade(changes, other) === isSame;
      }),
    ),
  );
});
