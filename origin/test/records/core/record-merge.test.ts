import { joinWhole } from '@sepia/records/core/join';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { mergePages, mergeTold, type OwnPage } from '../../../src/records/core/record-merge.ts';

interface Entry {
  readonly key: string;
  readonly atMs: number;
  readonly value?: string;
}

const ENTRY = fc.record(
  { key: fc.constantFrom('a', 'b', 'c', 'd', 'e'), atMs: fc.nat(3), value: fc.constantFrom('x', 'y') },
  { requiredKeys: ['key', 'atMs'] },
) as fc.Arbitrary<Entry>;

const joined = (a: Entry, b: Entry): Entry => joinWhole(a, b) as Entry;

t.test('pages merge to what stands, up to where all owners told', async (t) => {
  const full = (entries: Entry[]): Entry[] => {
    const own = new Map<string, Entry>();
    for (const one of entries) {
      const known = own.get(one.key);
      own.set(one.key, known === undefined ? one : joined(known, one));
    }
    return [...own.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  };
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(
        fc.array(fc.array(ENTRY), { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: 3 }),
        (owners, limit) => {
          const own = owners.map(full);
          const wanted = new Map<string, Entry>();
          for (const one of own.flat()) {
            const known = wanted.get(one.key);
            wanted.set(one.key, known === undefined ? one : joined(known, one));
          }
          const found: Entry[] = [];
          let after: string | undefined;
          for (;;) {
            const pages: OwnPage<Entry>[] = own.map((entries) => {
              const behind = entries.filter((one) => after === undefined || one.key > after);
              return { entries: behind.slice(0, limit), more: behind.length > limit };
            });
            const page = mergePages(pages, (one) => one.key, joined);
            found.push(...page.entries);
            if (page.next === undefined) break;
            after = page.next;
          }
          const strip = (one: Entry): string =>
            `${one.key}@${one.atMs}${one.value === undefined ? '-' : '+'}`;
          const stands = [...wanted.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
          return found.map(strip).join() === stands.map(strip).join();
        },
      ),
    ),
  );
});

t.test('what does not stand is left out, and what is behind it is still read', async (t) => {
  const pages: readonly OwnPage<Entry>[] = [
    { entries: [{ key: 'a', atMs: 1 }], more: true },
    { entries: [{ key: 'a', atMs: 2 }], more: false },
  ];
  const told: (readonly (number | undefined)[])[] = [];
  const merged = mergeTold<Entry, OwnPage<Entry>>(
    pages,
    (one) => one.key,
    (entries) => {
      told.push(entries.map(({ entry }) => entry?.atMs));
      return undefined;
    },
  );
  t.same(told, [[1, 2]], 'each owner is heard of each key');
  t.same(merged, { entries: [], next: 'a' });
});
