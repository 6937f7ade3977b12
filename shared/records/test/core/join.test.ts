import { fc } from '@sepia/test-support/property';
import { SEED } from '@sepia/test-support/seeded';
import t from 'tap';
import { canonicalJson, type Entry, isShown, type Join, joinFields, joinWhole } from '../../src/core/join.ts';

const CHECK = { seed: SEED, numRuns: 2000 };

/** What members write: few clocks and values, so that they meet. */
const written: fc.Arbitrary<Entry> = fc.record({
  atMs: fc.integer({ min: 1, max: 4 }),
  value: fc.option(fc.dictionary(fc.constantFrom('sizeBytes', 'mediaType'), fc.integer({ min: 1, max: 2 })), {
    nil: undefined,
  }),
});
/** What members keep: any merge of what was written. */
const kept = (join: Join): fc.Arbitrary<Entry> =>
  fc.array(written, { minLength: 1, maxLength: 4 }).map((entries) => entries.reduce(join, entries[0]!));

for (const [name, join] of Object.entries({ joinWhole, joinFields })) {
  t.test(`${name} is commutative, associative and idempotent, byte for byte`, async (t) => {
    const same = (a: Entry, b: Entry): void => {
      if (canonicalJson(a) !== canonicalJson(b)) throw new Error(`${canonicalJson(a)} ≠ ${canonicalJson(b)}`);
    };
    fc.assert(
      fc.property(kept(join), kept(join), kept(join), (a, b, c) => {
        same(join(a, a), a);
        same(join(a, b), join(b, a));
        same(join(join(a, b), c), join(a, join(b, c)));
      }),
      CHECK,
    );
    t.pass();
  });

  t.test(`${name}: says so if nothing is new`, async (t) => {
    fc.assert(
      fc.property(kept(join), kept(join), (a, b) => {
        const both = join(a, b);
        return join(both, a) === both && join(both, b) === both;
      }),
      CHECK,
    );
    t.pass();
  });

  t.test(`${name}: what was deleted last is gone, what was put last is there`, async (t) => {
    fc.assert(
      fc.property(fc.array(written, { minLength: 1, maxLength: 6 }), (entries) => {
        const lastMs = Math.max(...entries.map(({ atMs }) => atMs));
        const last = entries.filter(({ atMs }) => atMs === lastMs);
        const isGone = last.some(({ value }) => value === undefined);
        return (entries.reduce(join).value === undefined) === isGone;
      }),
      CHECK,
    );
    t.pass();
  });
}

t.test('a merge that takes over what a link does not say is no join, and this test finds it', async (t) => {
  const takesOver: Join = (a, b) => {
    const later = joinWhole(a, b);
    if (later === a || a.value === undefined || b.value === undefined) return later;
    return { ...b, value: { ...(a.value as object), ...(b.value as object) } };
  };
  t.throws(() =>
    fc.assert(
      fc.property(written, written, written, (a, b, c) => {
        const left = canonicalJson(takesOver(takesOver(a, b), c));
        return (
          left === canonicalJson(takesOver(a, takesOver(b, c))) &&
          canonicalJson(takesOver(a, b)) === canonicalJson(takesOver(b, a))
        );
      }),
      CHECK,
    ),
  );
});

t.test('fields join on their own clocks', async (t) => {
  const size = { atMs: 1, value: { sizeBytes: 5 } };
  const type = { atMs: 2, value: { mediaType: 'x' } };
  t.same(joinFields(size, type), {
    atMs: 2,
    value: { mediaType: 'x', sizeBytes: 5 },
    fieldMs: { sizeBytes: 1 },
  });
  const dead = { atMs: 3 };
  t.same([size, type, dead].reduce(joinFields), dead);
  t.same([size, type, dead, { atMs: 4, value: { mediaType: 'y' } }].reduce(joinFields), {
    atMs: 4,
    value: { mediaType: 'y' },
    deadMs: 3,
  });
});

t.test('a field that is undefined says nothing, as on the disk and on the wire', async (t) => {
  const unsaid = { atMs: 2, value: { sizeBytes: undefined, mediaType: 'x' } };
  const sent = JSON.parse(JSON.stringify(unsaid)) as Entry;
  for (const other of [
    { atMs: 1, value: { sizeBytes: 5 } },
    { atMs: 2, value: { sizeBytes: 5 } },
    { atMs: 3, value: { sizeBytes: 5 } },
  ]) {
    t.equal(canonicalJson(joinFields(unsaid, other)), canonicalJson(joinFields(sent, other)));
    t.equal((joinFields(unsaid, other).value as { sizeBytes?: number }).sizeBytes, 5);
  }
  t.ok(isShown(unsaid, sent, true), 'nor does it wait to be shown');
  t.ok(isShown(unsaid, sent, false));
});

t.test('what was asked for shows, or another stands in its way', async (t) => {
  t.ok(isShown({ atMs: 1 }, { atMs: 5 }, true));
  t.notOk(isShown({ atMs: 1 }, { atMs: 5, value: {} }, true));
  t.notOk(isShown({ atMs: 1, value: {} }, { atMs: 5 }, true));
  t.notOk(isShown({ atMs: 1 }, undefined, true));
  t.ok(isShown({ atMs: 1, value: { a: 1 } }, { atMs: 5, value: { a: 1, b: 2 } }, true));
  t.notOk(isShown({ atMs: 1, value: { a: 1 } }, { atMs: 5, value: { a: 1, b: 2 } }, false));
  t.notOk(isShown({ atMs: 1, value: { a: 1 } }, { atMs: 5, value: { a: 2 } }, true));
});

t.test('equal values have equal bytes', async (t) => {
  t.equal(canonicalJson(undefined), 'null', 'always text that can be compared');
  t.equal(canonicalJson([undefined, 1]), JSON.stringify([undefined, 1]));
  t.equal(
    canonicalJson({ b: 1, a: [1, { d: undefined, c: null }] }),
    canonicalJson({ a: [1, { c: null }], b: 1 }),
  );
  fc.assert(
    fc.property(fc.json(), (text) => {
      const value = JSON.parse(text) as unknown;
      return canonicalJson(JSON.parse(canonicalJson(value))) === canonicalJson(value);
    }),
    CHECK,
  );
});
