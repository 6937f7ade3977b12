import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { LEAVING_MS, PULL_MS } from '../../../src/deadlines.ts';
import { type CachedLayer, CacheKeeping, type CacheStep } from '../../../src/layers/core/cache-keeping.ts';

const BUDGET = { budgetBytes: 1_000, highWatermark: 0.9, lowWatermark: 0.6 };
const LONG_AGO = -2 * PULL_MS;
const layer = (id: string, sizeBytes: number, usedMs = LONG_AGO): CachedLayer => ({
  ...{ id, sizeBytes, usedMs },
  isLocal: false,
});
const held = (...ids: string[]): ReadonlySet<string> => new Set(ids);
const text = (steps: readonly CacheStep[]): string => steps.map(({ type, id }) => `${type} ${id}`).join(', ');

t.test('while there is room nothing goes, and snapshots are looked at once a minute', async (t) => {
  const keeping = new CacheKeeping(BUDGET);
  const layers = [layer('a', 450), layer('b', 450)];
  t.ok(keeping.mustLook(layers, 0), 'nobody looked yet');
  t.equal(text(keeping.step(layers, held(), 0)), '');
  t.notOk(keeping.mustLook(layers, 59_999));
  t.ok(keeping.mustLook(layers, 60_000));
  t.same(keeping.fill, { usedBytes: 900, budgetBytes: 1_000, layersInUse: 0 });
  t.notOk(keeping.isFull);
});

t.test('above the high mark the least recently used go, down to the low one, in two steps', async (t) => {
  const keeping = new CacheKeeping(BUDGET);
  const layers = [
    layer('new', 300, LONG_AGO + 2),
    layer('old', 300, LONG_AGO),
    layer('mid', 350, LONG_AGO + 1),
  ];
  t.equal(text(keeping.step(layers, held(), 0)), 'withdraw old, withdraw mid');
  t.ok(keeping.isFull, 'their files are here still');
  t.ok(keeping.mustLook(layers, 1), 'what leaves is watched');
  t.equal(text(keeping.step(layers, held(), LEAVING_MS - 1)), '');
  t.equal(text(keeping.step(layers, held(), LEAVING_MS)), 'remove old, remove mid');
  t.equal(text(keeping.step([layers[0]!], held(), LEAVING_MS + 1)), '');
});

t.test('what was found just before it was withdrawn is shown again', async (t) => {
  const keeping = new CacheKeeping(BUDGET);
  const layers = [layer('a', 500), layer('b', 500)];
  t.equal(text(keeping.step(layers, held(), 0)), 'withdraw a');
  t.equal(text(keeping.step(layers, held('a'), 1)), 'show a, withdraw b', 'the other goes in its place');
  t.equal(text(keeping.step(layers, held('a'), LEAVING_MS + 1)), 'remove b');
});

t.test('a pull that is shown a leaving layer keeps it', async (t) => {
  const keeping = new CacheKeeping(BUDGET);
  const layers = [layer('a', 500), layer('b', 500)];
  t.equal(text(keeping.step(layers, held('b'), 0)), 'withdraw a');
  t.ok(keeping.isLeaving('a'));
  keeping.shown('a', 1);
  t.notOk(keeping.isLeaving('a'));
  t.equal(text(keeping.step(layers, held('b'), LEAVING_MS)), '');
  t.equal(text(keeping.step(layers, held('b'), PULL_MS)), '', 'its snapshot may come yet');
  t.equal(text(keeping.step(layers, held('b'), PULL_MS + 1)), 'withdraw a', 'that pull failed');
});

t.test(
  'a pull that takes long keeps its layers as long as one after the other gets its snapshot',
  async (t) => {
    const keeping = new CacheKeeping(BUDGET);
    const layers = [layer('a', 400), layer('b', 400), layer('c', 400), layer('other', 400)];
    keeping.shown('other', -2 * PULL_MS);
    for (const [at, id] of ['a', 'b', 'c'].entries()) keeping.shown(id, at);
    const most = PULL_MS - 1;
    t.equal(text(keeping.step(layers, held('a'), most)), 'withdraw other');
    t.equal(text(keeping.step(layers.slice(0, 3), held('a', 'b'), 2 * most)), '', 'the next one came');
    t.equal(text(keeping.step(layers.slice(0, 3), held('a', 'b'), 3 * most)), '');
    t.equal(text(keeping.step(layers.slice(0, 3), held('a', 'b'), 3 * most + 2)), 'withdraw c', 'it ended');
  },
);

t.test('where nobody knows what is in use nothing goes, and what was going comes back', async (t) => {
  const keeping = new CacheKeeping(BUDGET);
  const layers = [layer('a', 500), layer('b', 500)];
  t.equal(text(keeping.step(layers, undefined, 0)), '');
  t.equal(text(keeping.step(layers, held(), 0)), 'withdraw a');
  t.equal(text(keeping.step(layers, undefined, LEAVING_MS)), 'show a');
  t.equal(text(keeping.step(layers, undefined, 2 * LEAVING_MS)), '');
});

t.test('layers of the operator’s own config stay', async (t) => {
  const keeping = new CacheKeeping(BUDGET);
  const layers = [{ ...layer('own', 900), isLocal: true }, layer('b', 100, LONG_AGO + 1)];
  t.equal(text(keeping.step(layers, held(), 0)), 'withdraw b');
});

t.test('a layer of no image that is here is not wanted, until a pull is shown it again', async (t) => {
  const keeping = new CacheKeeping(BUDGET);
  const layers = [layer('a', 100), layer('b', 100), { ...layer('own', 100), isLocal: true }];
  const wanted = () => layers.map(({ id }) => id).filter((id) => keeping.isWanted(id));
  keeping.step(layers, undefined, 0);
  t.same(wanted(), ['a', 'b', 'own'], 'nobody knows');
  keeping.step(layers, held('a', 'b'), 1);
  t.same(wanted(), ['a', 'b', 'own']);
  keeping.step(layers, held('b'), 2);
  t.same(wanted(), ['b', 'own'], 'the image of the first was removed');
  keeping.shown('a', 3);
  t.same(wanted(), ['a', 'b', 'own'], 'it is pulled again');
  keeping.step(layers, held('b'), PULL_MS);
  t.same(wanted(), ['a', 'b', 'own'], 'its snapshot may come yet');
  keeping.step(layers, held('b'), PULL_MS + 3);
  t.same(wanted(), ['b', 'own'], 'that pull failed');
  keeping.step(layers, undefined, PULL_MS + 4);
  t.same(wanted(), ['a', 'b', 'own'], 'nobody knows any more');
  t.ok(keeping.isWanted('one that came just now'));
  t.equal(text(keeping.step([layer('b', 950)], held(), PULL_MS + 5)), 'withdraw b');
  t.notOk(keeping.isWanted('b'), 'it makes room');
});

interface Event {
  readonly type: 'pull' | 'mount' | 'drop' | 'grow' | 'tick' | 'blind';
  readonly of: number;
  readonly afterMs: number;
}

const NAMES = ['a', 'b', 'c', 'd', 'e'];
const events = fc.array(
  fc.record({
    type: fc.constantFrom('pull', 'mount', 'drop', 'grow', 'tick', 'tick', 'tick', 'blind') as fc.Arbitrary<
      Event['type']
    >,
    of: fc.nat(NAMES.length - 1),
    afterMs: fc.constantFrom(0, 100, LEAVING_MS, 10_000, PULL_MS),
  }),
  { maxLength: 80 },
);

/** A node: which layers are here, which containerd finds, which its snapshots name. */
class Node {
  readonly keeping = new CacheKeeping(BUDGET);
  readonly here = new Map<string, CachedLayer>();
  readonly found = new Set<string>();
  readonly mounted = new Set<string>();
  nowMs = 0;

  take(event: Event): void {
    this.nowMs += event.afterMs;
    const id = NAMES[event.of]!;
    if (event.type === 'pull') this.pull(id);
    else if (event.type === 'mount' && this.found.has(id)) this.mounted.add(id);
    else if (event.type === 'drop') this.mounted.delete(id);
    else if (event.type === 'grow' && this.here.has(id)) this.grow(id);
    else if (event.type === 'tick') this.tick(new Set(this.mounted));
    else if (event.type === 'blind') this.tick(undefined);
  }

  pull(id: string): void {
    if (!this.here.has(id)) this.here.set(id, layer(id, 100, this.nowMs));
    this.keeping.shown(id, this.nowMs);
    this.found.add(id);
  }

  grow(id: string): void {
    const one = this.here.get(id)!;
    this.here.set(id, { ...one, sizeBytes: one.sizeBytes + 150 });
  }

  tick(heldNow: ReadonlySet<string> | undefined): CacheStep[] {
    const layers = [...this.here.values()];
    if (!this.keeping.mustLook(layers, this.nowMs)) return [];
    const steps = this.keeping.step(layers, heldNow, this.nowMs);
    for (const { type, id } of steps) {
      if (type === 'withdraw') this.found.delete(id);
      else if (type === 'show') this.found.add(id);
      else if (this.mounted.has(id) || heldNow === undefined) throw new Error(`${id} is removed in use`);
      else this.here.delete(id);
    }
    return steps;
  }

  get bytes(): number {
    return [...this.here.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }
}

t.test('whatever happens: what is mounted stays and is found, and the rest makes room', async () => {
  fc.assert(
    fc.property(events, (history) => {
      const node = new Node();
      for (const event of history) {
        node.take(event);
        if (event.type !== 'tick') continue;
        for (const id of node.mounted) if (!node.found.has(id)) return false;
      }
      // Left alone it comes to rest: within the budget, or full of what is in use.
      for (let turn = 0; turn < 4; turn++) {
        node.nowMs += PULL_MS;
        node.tick(new Set(node.mounted));
      }
      const isAllInUse = [...node.here.keys()].every((id) => node.mounted.has(id));
      const rest = node.tick(new Set(node.mounted));
      return rest.length === 0 && (!node.keeping.isFull || isAllInUse) && node.bytes >= 0;
    }),
  );
});

t.test('a file whose date is ahead counts as used now', async (t) => {
  const keeping = new CacheKeeping(BUDGET);
  const layers = [layer('ahead', 950, 100 * PULL_MS)];
  t.equal(text(keeping.step(layers, held(), 0)), '', 'its pull may go on');
  t.equal(text(keeping.step(layers, held(), PULL_MS)), 'withdraw ahead');
});

t.test('layers that were used at the same time go in the order of their names', async (t) => {
  for (const order of [
    ['a', 'b', 'c'],
    ['c', 'b', 'a'],
  ]) {
    const keeping = new CacheKeeping(BUDGET);
    const layers = order.map((id) => layer(id, 350));
    t.equal(text(keeping.step(layers, held(), 0)), 'withdraw a, withdraw b', order.join());
  }
});

t.test('another budget counts from the next step on', async (t) => {
  const keeping = new CacheKeeping(BUDGET);
  const layers = [layer('a', 450), layer('b', 450)];
  t.equal(text(keeping.step(layers, held(), 0)), '');
  keeping.adjust({ ...BUDGET, budgetBytes: 500 });
  t.ok(keeping.isFull);
  t.ok(keeping.mustLook(layers, 1));
  t.equal(keeping.fill.budgetBytes, 500);
  t.equal(text(keeping.step(layers, held(), 1)), 'withdraw a, withdraw b');
  keeping.adjust({ ...BUDGET, budgetBytes: 10_000 });
  t.notOk(keeping.isFull);
});
