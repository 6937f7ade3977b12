import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { FLOOR_LIST, FLOOR_PAGE, PROMISED } from '../../src/floors/messages.ts';
import { SHARD, World } from './world.ts';

const NEVER = new AbortController().signal;
/** What may stand in place of a clock. */
const ODD = fc.oneof(
  fc.constantFrom(-1, Number.NaN, Number.POSITIVE_INFINITY, '5', null, true, [7], { ms: 3 }),
  fc.double(),
  fc.string(),
);
const GOOD_PAGE = { floor: { promisedMs: 9, agreedMs: 9 }, entries: [] };

t.test('a floor that is told is two clocks, of which the agreed one is not the later', async (t) => {
  let taken = 0;
  fc.assert(
    fc.property(ODD, ODD, (promisedMs, agreedMs) => {
      const floor = { promisedMs, agreedMs };
      const list = FLOOR_LIST.safeParse({ floors: [{ ...SHARD, ...floor }] });
      const page = FLOOR_PAGE.safeParse({ ...GOOD_PAGE, floor });
      if (list.success !== page.success) throw new Error(JSON.stringify(floor));
      if (!page.success) return;
      taken += 1;
      const { floor: one } = page.data;
      if (!(one.agreedMs >= 0 && one.agreedMs <= one.promisedMs && Number.isFinite(one.promisedMs)))
        throw new Error(JSON.stringify(floor));
    }),
    { numRuns: 5_000 },
  );
  t.ok(taken > 50, `${taken} were floors`);
  for (const entry of [
    { key: [], atMs: 1 },
    { key: ['a\0b'], atMs: 1 },
    { key: ['a'], atMs: '1' },
    { key: ['a'], atMs: 1, value: 'text' },
  ])
    t.notOk(FLOOR_PAGE.safeParse({ ...GOOD_PAGE, entries: [entry] }).success, JSON.stringify(entry));
  t.notOk(PROMISED.safeParse({ digest: '' }).success, 'owners that tell nothing do not tell the same');
});

t.test('an owner that tells no floor but something else hides nothing', async (t) => {
  const world = new World();
  await world.of('a').set.write(SHARD, [{ key: ['k'], value: { sizeBytes: 1 } }]);
  let odd: unknown;
  const b = world.of('b');
  const answer = b.answer.bind(b);
  b.answer = async (...asked) => {
    const told = (await answer(...asked)) as { record?: unknown };
    return { ...told, record: undefined, agreedMs: odd };
  };
  let asked = 0;
  await fc.assert(
    fc.asyncProperty(
      ODD.filter((one) => typeof one !== 'number' || !(one > 0 && Number.isFinite(one))),
      async (one) => {
        odd = one;
        const found = await world.readBy(['k'], ['a', 'b']);
        if (found === undefined || found === 'none' || found.value === undefined)
          throw new Error(JSON.stringify({ one, found }));
        asked += 1;
      },
    ),
    { numRuns: 300 },
  );
  t.equal(asked, 300);
});

t.test(
  'nothing is taken over from an owner whose answers are none, or that has a lower floor by then',
  async (t) => {
    for (const wrong of [
      { ...GOOD_PAGE, floor: { promisedMs: 9, agreedMs: 8 } },
      { ...GOOD_PAGE, floor: { promisedMs: 1, agreedMs: 9 } },
      { floor: GOOD_PAGE.floor },
      {},
      null,
    ]) {
      const world = new World();
      await world.of('c').records.linkSet.put([SHARD.upstream, SHARD.repository, 'k'], { sizeBytes: 1 }, 5);
      const a = world.of('a');
      await a.records.floors.agree([SHARD.upstream, SHARD.repository], 9);
      const answer = a.answer.bind(a);
      a.answer = async (path, json) =>
        path.startsWith('/v1/floors/page') ? wrong : await answer(path, json);
      const { takeover, records } = world.of('c');
      const theirs = await takeover.listOf('a', 'repair', new Set(['all']), NEVER);
      await t.rejects(takeover.take('a', 'repair', theirs, NEVER), JSON.stringify(wrong));
      t.equal(records.floors.of([SHARD.upstream, SHARD.repository]).agreedMs, 0);
      t.ok((await records.linkSet.entry([SHARD.upstream, SHARD.repository, 'k']))?.value);
    }
  },
);

t.test('an owner that promises and tells nonsense agrees with nobody', async (t) => {
  const world = new World();
  const b = world.of('b');
  b.answer = async () => ({ digest: 'none' });
  t.notOk(await world.of('a').rounds.seek(SHARD, 500, NEVER));
  t.equal(world.of('c').records.floors.of([SHARD.upstream, SHARD.repository]).agreedMs, 0);
});
