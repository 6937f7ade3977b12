import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { FirstSpans } from '../../../src/layers/core/first-spans.ts';

class Layer {
  readonly here = new Set<number>();
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
  hasOrFetches(span: number): boolean {
    return this.here.has(span);
  }
}

const always = (): boolean => true;

t.test('spans come out in their order, neighbours of a layer together, each once', async (t) => {
  let runs = 0;
  const spans = fc.array(fc.tuple(fc.nat(1), fc.nat(9)), { maxLength: 40 });
  fc.assert(
    fc.property(fc.array(spans, { maxLength: 3 }), fc.integer({ min: 1, max: 4 }), (adds, most) => {
      const layers = [new Layer('a'), new Layer('b')];
      const first = new FirstSpans<Layer>();
      for (const add of adds) first.add(add.map(([layer, span]) => ({ layer: layers[layer]!, span })));
      const order = [...new Set(adds.flat().map(([layer, span]) => `${'ab'[layer]}${span}`))];
      const taken: string[] = [];
      for (let next = first.take(most, always); next !== undefined; next = first.take(most, always)) {
        const { layer, run } = next;
        if (run.last < run.first || run.last - run.first >= most) return false;
        for (let span = run.first; span <= run.last; span++) {
          taken.push(`${layer.name}${span}`);
          layer.here.add(span);
        }
      }
      runs += 1;
      return first.isEmpty && taken.join() === order.join();
    }),
  );
  t.ok(runs >= 100);
});

t.test('what came meanwhile, or may not be filled any more, is left out', async (t) => {
  const [a, b] = [new Layer('a'), new Layer('b')];
  const first = new FirstSpans<Layer>();
  first.add([a, a, b, a].map((layer, span) => ({ layer, span })));
  a.here.add(0);
  t.same(
    first.take(4, (layer) => layer === a),
    { layer: a, run: { first: 1, last: 1 } },
  );
  t.same(
    first.take(4, (layer) => layer === a),
    { layer: a, run: { first: 3, last: 3 } },
    'not b',
  );
  t.equal(first.take(4, always), undefined);
  first.add([{ layer: a, span: 0 }]);
  t.ok(first.isEmpty, 'it is there already');
});

t.test('it tells what is lost, but not of what is there', async (t) => {
  const [a, b] = [new Layer('a'), new Layer('b')];
  const first = new FirstSpans<Layer>();
  first.add([a, a, b].map((layer, span) => ({ layer, span })));
  a.here.add(0);
  const lost: string[] = [];
  const onLost = ({ name }: Layer, span: number): void => void lost.push(`${name}${span}`);
  t.same(
    first.take(4, (layer) => layer === b, onLost),
    { layer: b, run: { first: 2, last: 2 } },
  );
  t.same(lost, ['a1']);
});

t.test('it is bounded', async (t) => {
  const layer = new Layer('a');
  const first = new FirstSpans<Layer>();
  first.add(Array.from({ length: 30_000 }, (_none, span) => ({ layer, span })));
  let count = 0;
  while (first.take(100, always) !== undefined) count += 1;
  t.equal(count, 200);
});
