import fc from 'fast-check';
import t from 'tap';
import {
  hindrance,
  isLater,
  latest,
  mergePages,
  type OwnPage,
  readQuorum,
} from '../../../src/records/core/record-merge.ts';

interface Entry {
  readonly key: string;
  readonly atMs: number;
  readonly value?: string;
}

const ENTRY = fc.record(
  { key: fc.constantFrom('a', 'b', 'c', 'd', 'e'), atMs: fc.nat(3), value: fc.constantFrom('x', 'y') },
  { requiredKeys: ['key', 'atMs'] },
) as fc.Arbitrary<Entry>;

t.test('the later clock stands, a tombstone at the same time', (t) => {
  t.ok(isLater({ atMs: 2, value: 1 }, { atMs: 1 }));
  t.notOk(isLater({ atMs: 1, value: 1 }, { atMs: 1 }));
  t.ok(isLater({ atMs: 1 }, { atMs: 1, value: 1 }));
  t.same(latest([undefined, { atMs: 1, value: 'x' }, { atMs: 3 }, { atMs: 2, value: 'y' }]), { atMs: 3 });
  t.equal(latest([undefined]), undefined);
  t.end();
});

t.test('only the other kind at the same time or later stands in the way', (t) => {
  t.equal(hindrance({ atMs: 5, value: 1 }, undefined), undefined);
  t.equal(hindrance({ atMs: 5, value: 1 }, { atMs: 7, value: 2 }), undefined);
  t.equal(hindrance({ atMs: 5, value: 1 }, { atMs: 5 }), 5);
  t.equal(hindrance({ atMs: 5, value: 1 }, { atMs: 4 }), undefined);
  t.equal(hindrance({ atMs: 5 }, { atMs: 9, value: 1 }), 9);
  t.equal(hindrance({ atMs: 5 }, { atMs: 9 }), undefined);
  t.end();
});

t.test('a read and a write share an owner', (t) => {
  for (const [owners, write] of [
    [1, 1],
    [2, 2],
    [3, 2],
  ] as const)
    t.ok(readQuorum(owners, write) + write > owners, `${owners}`);
  t.end();
});

t.test('pages merge to what stands, up to where all owners told', (t) => {
  const full = (entries: Entry[]): Entry[] => {
    const own = new Map<string, Entry>();
    for (const one of entries) {
      const known = own.get(one.key);
      if (known === undefined || isLater(one, known)) own.set(one.key, one);
    }
    return [...own.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  };
  fc.assert(
    fc.property(
      fc.array(fc.array(ENTRY), { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 1, max: 3 }),
      (owners, limit) => {
        const own = owners.map(full);
        const wanted = new Map<string, Entry>();
        for (const one of own.flat()) {
          const known = wanted.get(one.key);
          if (known === undefined || isLater(one, known)) wanted.set(one.key, one);
        }
        const found: Entry[] = [];
        let after: string | undefined;
        for (;;) {
          const pages: OwnPage<Entry>[] = own.map((entries) => {
            const behind = entries.filter((one) => after === undefined || one.key > after);
            return { entries: behind.slice(0, limit), more: behind.length > limit };
          });
          const page = mergePages(pages, (one) => one.key, isLater);
          found.push(...page.entries);
          if (page.next === undefined) break;
          after = page.next;
        }
        const strip = (one: Entry): string => `${one.key}@${one.atMs}${one.value === undefined ? '-' : '+'}`;
        const stands = [...wanted.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
        return found.map(strip).join() === stands.map(strip).join();
      },
    ),
  );
  t.end();
});
