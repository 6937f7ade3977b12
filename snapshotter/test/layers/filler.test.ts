import { getEventListeners } from 'node:events';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { News } from '@sepia/base/news';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { FIRST_FILL_PAUSE_MS, LONGEST_FILL_PAUSE_MS } from '../../src/deadlines.ts';
import { FirstSpans } from '../../src/layers/core/first-spans.ts';
import { Presence } from '../../src/layers/core/presence.ts';
import type { Run } from '../../src/layers/core/runs.ts';
import { Filler } from '../../src/layers/filler.ts';

const SPANS = 10;

/** A layer of ten spans whose fetches wait until they are let go. */
class Layer {
  readonly index = { layer: digestOf(Buffer.from('a layer')) };
  readonly presence: Presence;
  readonly asked: Run[] = [];
  readonly #waits: { run: Run; end: (error?: Error) => void }[] = [];

  constructor() {
    const [image, layer, length] = [[4096], [0], [SPANS * 4096]].map((one) => Float64Array.from(one));
    const layout = {
      spanOffsets: Float64Array.from({ length: SPANS }, (_none, index) => index * 4096),
      uncompressedBytes: SPANS * 4096,
      extents: { image: image!, layer: layer!, length: length! },
      metaBytes: 4096,
      imageBytes: (SPANS + 1) * 4096,
    };
    this.presence = new Presence(layout, new SharedArrayBuffer(Presence.blockBytes(layout.imageBytes)));
  }

  get running(): number {
    return this.#waits.length;
  }

  hasOrFetches(span: number): boolean {
    return this.presence.has(span) || this.#waits.some(({ run }) => run.first <= span && span <= run.last);
  }

  async fetch(run: Run): Promise<void> {
    this.asked.push(run);
    await new Promise<void>((resolve, reject) => {
      const end = (error?: Error): void => (error === undefined ? resolve() : reject(error));
      this.#waits.push({ run, end });
    });
  }

  /** Ends the fetch that began first. */
  letGo(error?: Error): void {
    const { run, end } = this.#waits.shift()!;
    if (error === undefined) for (let span = run.first; span <= run.last; span++) this.presence.add(span);
    end(error);
  }
}

function filled(
  t: Test,
  reads: { waiting: number; lastReadMs: number },
  want: readonly number[],
  others: readonly Layer[] = [],
  isRestFilled = true,
) {
  const layer = new Layer();
  const first = new FirstSpans<Layer>();
  first.add([layer, ...others].flatMap((one) => want.map((span) => ({ layer: one, span }))));
  const layers: Layer[] = [layer, ...others];
  const news = new News();
  const addFirst = (spans: Parameters<typeof first.add>[0]): void => {
    first.add(spans);
    news.tell();
  };
  const clock = { nowMs: 1_000_000 };
  const filler = new Filler<Layer>({
    log: silentLogger(),
    layers: () => layers,
    rest: () => (isRestFilled ? layers : []),
    first,
    addFirst,
    firstAdded: async (signal) => await news.next(signal),
    reads: () => reads,
    nowMs: () => clock.nowMs,
  });
  t.teardown(async () => {
    const stopping = filler.stop();
    for (const one of layers) while (one.running > 0) one.letGo();
    await stopping;
  });
  return { layer, first, news, clock };
}

t.test('what a start reads comes first, two runs at once, then the rest', async (t) => {
  const { layer } = filled(t, { waiting: 0, lastReadMs: 0 }, [7, 8, 3]);
  await until(() => layer.running === 2, 'two runs');
  t.same(layer.asked, [
    { first: 7, last: 8 },
    { first: 3, last: 3 },
  ]);
  layer.letGo();
  layer.letGo();
  await until(() => layer.running === 1, 'the rest');
  t.same(layer.asked[2], { first: 0, last: 1 });
});

t.test('beside a program that waits one run is under way, and nothing of the rest', async (t) => {
  const reads = { waiting: 1, lastReadMs: 0 };
  const { layer, first } = filled(t, reads, [5, 1]);
  await until(() => layer.running === 1, 'one run');
  t.same(layer.asked, [{ first: 5, last: 5 }]);
  layer.letGo();
  await until(() => layer.running === 1 && first.isEmpty, 'the next');
  t.same(layer.asked[1], { first: 1, last: 1 });
  layer.letGo();
  reads.waiting = 0;
  await until(() => layer.running === 1, 'the rest, when nobody waits any more');
  t.same(layer.asked[2], { first: 0, last: 0 });
});

t.test('a run that fails is left to the rest', async (t) => {
  const { layer, clock } = filled(t, { waiting: 0, lastReadMs: 0 }, [9]);
  await until(() => layer.running === 1, 'the run');
  layer.letGo(new Error('nobody has it'));
  const isRunning = (): boolean => {
    clock.nowMs += FIRST_FILL_PAUSE_MS;
    return layer.running === 1;
  };
  while (!layer.presence.isComplete) {
    await until(isRunning, 'the rest');
    layer.letGo();
  }
  t.same(layer.asked.at(-1), { first: 8, last: 9 });
});

t.test('a layer of which nothing comes holds up no other, and is tried again behind them', async (t) => {
  const other = new Layer();
  const { layer, first, clock } = filled(t, { waiting: 0, lastReadMs: 0 }, [1, 3, 5, 7], [other]);
  const gone = new CodedError('TIMEOUT');
  await until(() => layer.running === 2, 'two runs of what starts read first');
  layer.letGo(gone);
  layer.letGo(gone);
  // Nothing more of the dead layer is tried while the other has its turn.
  while (!other.presence.isComplete) {
    await until(() => other.running > 0, 'the next run of the other');
    other.letGo();
    clock.nowMs += 10;
  }
  t.equal(layer.asked.length, 2);
  t.ok(first.isEmpty);
  const isTriedAgain = (): boolean => {
    clock.nowMs += FIRST_FILL_PAUSE_MS;
    return layer.running === 1;
  };
  await until(isTriedAgain, 'the dead layer again');
  layer.letGo();
  await until(() => layer.running === 1, 'it is filled');
  t.same(layer.asked.slice(2), [
    { first: 0, last: 1 },
    { first: 2, last: 3 },
  ]);
});

for (const code of ['DISK_FULL', 'DISK_FAILED'] as const)
  t.test(`${code} is no fault of the layer: nothing else is fetched to be thrown away`, async (t) => {
    const other = new Layer();
    const { layer } = filled(t, { waiting: 0, lastReadMs: 0 }, [], [other]);
    await until(() => layer.running === 1, 'the first layer');
    layer.letGo(new CodedError(code));
    await until(() => layer.running === 1, 'the same again');
    t.same(other.asked, []);
  });

t.test('what is put in later is taken at once', async (t) => {
  const reads = { waiting: 1, lastReadMs: 0 };
  const { layer, first, news } = filled(t, reads, []);
  await until(() => news.waiting === 2, 'both lanes wait');
  first.add([{ layer, span: 4 }]);
  news.tell();
  await until(() => layer.running === 1, 'the run');
  t.same(layer.asked, [{ first: 4, last: 4 }]);
});

t.test('of a layer whose rest is not wanted only what a start reads comes', async (t) => {
  const { layer, first, news } = filled(t, { waiting: 0, lastReadMs: 0 }, [5], [], false);
  await until(() => layer.running === 1, 'the run');
  layer.letGo();
  await until(() => news.waiting === 2, 'both lanes wait for more');
  first.add([{ layer, span: 2 }]);
  news.tell();
  await until(() => layer.running === 1, 'the next run');
  layer.letGo();
  await until(() => news.waiting === 2, 'both lanes wait again');
  t.same(layer.asked, [
    { first: 5, last: 5 },
    { first: 2, last: 2 },
  ]);
});

t.test('where the rest is not wanted, what a start reads is asked again after a failure', async (t) => {
  const { layer, first, clock } = filled(t, { waiting: 0, lastReadMs: 0 }, [5, 2, 8, 9], [], false);
  const away = new CodedError('TIMEOUT');
  await until(() => layer.running === 2, 'two runs');
  layer.letGo(away);
  layer.letGo(away);
  await until(() => first.isEmpty, 'the third is not tried while the layer rests');
  t.equal(layer.asked.length, 2);
  const cameAgain = (): boolean => {
    clock.nowMs += LONGEST_FILL_PAUSE_MS;
    while (layer.running > 0) layer.letGo();
    return [5, 2, 8, 9].every((span) => layer.presence.has(span));
  };
  await until(cameAgain, 'the agent is back: all of it comes');
  t.equal(layer.presence.count, 4, 'and nothing else');
});

t.test('where the rest is not wanted, what found a full disk is asked again', async (t) => {
  for (const code of ['DISK_FULL', 'DISK_FAILED'] as const) {
    const other = new Layer();
    const reads = { waiting: 1, lastReadMs: 0 };
    const { layer } = filled(t, reads, [5], [other], false);
    await until(() => layer.running === 1, 'the run');
    layer.letGo(new CodedError(code));
    await until(() => other.running === 1, 'what comes behind it');
    other.letGo();
    await until(() => layer.running === 1, 'it comes again: it is no fault of the layer');
    layer.letGo();
    t.same(layer.asked, [
      { first: 5, last: 5 },
      { first: 5, last: 5 },
    ]);
  }
});

t.test('a failure that is waited out leaves nothing behind', async (t) => {
  const idle = new News();
  let signal: AbortSignal | undefined;
  let looks = 0;
  const filler = new Filler<Layer>({
    log: silentLogger(),
    layers: () => [],
    rest: () => {
      looks += 1;
      throw new Error('nobody knows');
    },
    first: new FirstSpans<Layer>(),
    addFirst: () => undefined,
    firstAdded: async (aborts) => {
      signal = aborts;
      await idle.next(aborts);
    },
    reads: () => ({ waiting: 0, lastReadMs: 0 }),
    nowMs: () => 0,
  });
  t.teardown(() => filler.stop());
  const waits = (): number => getEventListeners(signal!, 'abort').length;
  // It waits for one pause, for what starts read, and for the next look at what was put off.
  await until(() => looks === 1 && idle.waiting > 0, 'it failed once');
  const most = waits();
  await until(() => looks > 1, 'it is tried again');
  t.ok(waits() <= most, `${waits()} after ${most}`);
});
