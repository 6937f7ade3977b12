import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { ReadAhead } from '../../../src/layers/core/read-ahead.ts';

/** A layer of so many spans: what was read, what was fetched for a reader, what ahead. */
class Layer {
  readonly read = new Set<number>();
  readonly waited = new Set<number>();
  readonly ahead = new Set<number>();
  readonly #spans: number;
  readonly #core = new ReadAhead();

  constructor(spans: number) {
    this.#spans = spans;
  }

  /** Somebody reads `count` spans; they wait where one is not there. @returns spans that are fetched ahead then */
  reads(first: number, count = 1): number[] {
    const all = Array.from({ length: count }, (_none, step) => first + step).filter(
      (one) => one < this.#spans,
    );
    const missing = all.filter((span) => !this.#isHere(span));
    const now = {
      isHere: (span: number) => this.#isHere(span),
      wasRead: (span: number) => this.read.has(span),
    };
    if (missing.length > 0) this.#core.waited(missing[0]!, missing.at(-1)!, now);
    for (const span of missing) this.waited.add(span);
    for (const span of all) this.read.add(span);
    const fetched: number[] = [];
    if (missing.length === 0) return fetched;
    for (
      let run = this.#core.ahead(this.#spans, now);
      run !== undefined;
      run = this.#core.ahead(this.#spans, now)
    )
      for (let span = run.first; span <= run.last; span++) {
        if (this.#isHere(span)) throw new Error(`${span} is fetched twice`);
        this.ahead.add(span);
        fetched.push(span);
      }
    return fetched;
  }

  #isHere(span: number): boolean {
    return this.waited.has(span) || this.ahead.has(span);
  }
}

t.test(
  'who reads in order waits ever more rarely: one span is ahead for four that were read, eight at most',
  async (t) => {
    const layer = new Layer(200);
    const aheads = Array.from({ length: 200 }, (_none, span) => layer.reads(span).length).filter(
      (one) => one > 0,
    );
    t.strictSame(aheads.slice(0, 5), [1, 1, 2, 2, 3]);
    t.equal(Math.max(...aheads), 8);
    t.equal(layer.waited.size + layer.ahead.size, 200);
    t.equal(layer.waited.size, 30, 'spans that were waited for');
  },
);

t.test('reads that jump get nothing ahead', async (t) => {
  const layer = new Layer(1000);
  const jumps = [10, 500, 12, 700, 13, 900, 14, 300, 15, 200];
  t.strictSame(
    jumps.flatMap((span) => layer.reads(span, 2)),
    [],
  );
});

t.test('who leaves out what was fetched ahead has to read in order again', async (t) => {
  const layer = new Layer(100);
  for (let span = 0; span < 8; span++) layer.reads(span);
  t.ok(layer.ahead.size > 0);
  const end = Math.max(...layer.ahead) + 1;
  t.strictSame(layer.reads(end), []);
});

t.test('what lies between and is there does not end the order', async (t) => {
  const layer = new Layer(100);
  layer.reads(4, 2);
  for (let span = 0; span < 4; span++) layer.reads(span);
  t.strictSame(layer.reads(6), [7]);
});

t.test('what is fetched in vain is at most a quarter of what somebody read', async (t) => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ to: fc.nat({ max: 299 }), count: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ by: fc.integer({ min: -3, max: 6 }), count: fc.integer({ min: 1, max: 60 }) }),
    ),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 3 }), (list, width) => {
      const layer = new Layer(300);
      let at = 0;
      for (const step of list) {
        at = Math.max(0, 'to' in step ? step.to : at + step.by);
        for (let left = step.count; left > 0; left--, at += width) layer.reads(at, width);
      }
      const inVain = [...layer.ahead].filter((span) => !layer.read.has(span)).length;
      return inVain <= layer.read.size / 4;
    }),
  );
  t.pass();
});
