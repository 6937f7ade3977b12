import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { drawFrom, firstOf } from '../../../src/swarms/core/handout.ts';

interface Item {
  readonly at: number;
  readonly zone: string | undefined;
}

/** What {@link firstOf} is to give, of the whole list: as plainly as can be. */
function plain(items: readonly Item[], zone: string | undefined, count: number): Item[] {
  if (zone === undefined || items.length <= count) return items.slice(0, count);
  const near = items.filter((item) => item.zone === zone);
  const far = items.filter((item) => item.zone !== zone);
  const nearTake = Math.min(near.length, Math.max(Math.ceil(count * 0.75), count - far.length));
  return [...near.slice(0, nearTake), ...far.slice(0, count - nearTake)];
}

t.test('the first of a list are the same whether or not all of it is looked at', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('a', 'b', undefined), { maxLength: 40 }),
      fc.constantFrom('a', undefined),
      fc.nat(20),
      (zones, zone, count) => {
        const items = zones.map((one, at) => ({ at, zone: one }));
        const rest = [...items];
        const found = firstOf(() => rest.shift(), zone, count);
        const wanted = plain(items, zone, count);
        return found.length === wanted.length && found.every((one, at) => one === wanted[at]);
      },
    ),
  );
});

t.test('no more are drawn than it takes', async (t) => {
  const drawn = (zone: string | undefined, of: (at: number) => string): number => {
    let at = 0;
    firstOf(() => ({ zone: of(at++) }), zone, 8);
    return at;
  };
  t.equal(
    drawn(undefined, () => 'a'),
    8,
  );
  t.equal(
    drawn('a', (at) => (at < 6 ? 'a' : 'b')),
    9,
    'the ninth tells that there are more than are wanted',
  );
  t.equal(
    drawn('a', (at) => (at < 20 ? 'a' : 'b')),
    22,
    'two of another zone',
  );
});

t.test('two decks are drawn from as if they had been shuffled into one', async (t) => {
  for (const [first, second] of [
    [3, 2],
    [1, 4],
    [5, 0],
    [0, 3],
  ] as const) {
    const total = first + second;
    const counts = new Map<string, number>();
    // Every way that the chance can fall, once: of so many that are left, one is next.
    const fall = (falls: readonly number[]): void => {
      if (falls.length < total) {
        const left = total - falls.length;
        for (let one = 0; one < left; one++) fall([...falls, (one + 0.5) / left]);
        return;
      }
      let at = 0;
      const next = drawFrom(
        { count: first, draw: () => 'f' },
        { count: second, draw: () => 's' },
        () => falls[at]!,
      );
      let order = '';
      for (let one = next(); one !== undefined; one = next()) {
        order += one;
        at += 1;
      }
      counts.set(order, (counts.get(order) ?? 0) + 1);
    };
    fall([]);
    const factorial = (n: number): number => (n < 2 ? 1 : n * factorial(n - 1));
    t.equal(counts.size, factorial(total) / factorial(first) / factorial(second), 'every order');
    t.same(new Set(counts.values()), new Set([factorial(first) * factorial(second)]), 'each as often');
    t.ok([...counts.keys()].every((order) => order.replaceAll('s', '').length === first));
  }
});
