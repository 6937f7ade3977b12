import { takesNoWrites } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { delay, pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { notePass } from '@sepia/base/metrics';
import { FILL_BESIDE_MS, FILL_LOOK_MS, FIRST_FILL_PAUSE_MS, LONGEST_FILL_PAUSE_MS } from '../deadlines.ts';
import { FILL_SPANS, FIRST_LANES, mayFetchFirst, nextFill, type Reads } from './core/fill.ts';
import type { FirstSpans } from './core/first-spans.ts';
import { Rests } from './core/rests.ts';
import type { Run } from './core/runs.ts';
import type { LazyLayer } from './lazy-layer.ts';

/** What of a layer filling needs. */
type Filled = Pick<LazyLayer, 'presence' | 'fetch' | 'hasOrFetches'> & {
  readonly index: Pick<LazyLayer['index'], 'layer'>;
};

interface FillerDeps<Layer extends Filled> {
  readonly log: Logger;
  /** The layers of which spans may be fetched, as they are now. */
  readonly layers: () => readonly Layer[];
  /** Those of them that are fetched whole; of the others only what a start reads first. */
  readonly rest: () => readonly Layer[];
  /** Spans that are fetched before all others. */
  readonly first: Pick<FirstSpans<Layer>, 'isEmpty' | 'take'>;
  /** Adds spans to `first`. */
  readonly addFirst: (spans: readonly { readonly layer: Layer; readonly span: number }[]) => void;
  /** Resolves when spans are added to `first`; throws the signal's reason. */
  readonly firstAdded: (signal: AbortSignal) => Promise<void>;
  readonly reads: () => Reads;
  readonly nowMs: () => number;
}

/**
 * Fetches what a start reads first, also beside programs that wait; then what nobody has read yet, while nobody waits. A
 * layer of which nothing comes is tried again, ever more slowly, behind all others; with a disk that takes no writes everything waits.
 */
export class Filler<Layer extends Filled> {
  readonly #deps: FillerDeps<Layer>;
  readonly #abort = new AbortController();
  readonly #running: Promise<unknown>;
  readonly #rests = new Rests<Layer>();
  /** What a start reads of layers that rest. */
  readonly #putOff = new Map<Layer, number[]>();
  #firstRuns = 0;

  constructor(deps: FillerDeps<Layer>) {
    this.#deps = deps;
    const lanes = Array.from({ length: FIRST_LANES }, (_none, lane) => lane);
    this.#running = Promise.all([
      this.#repeat(() => this.#restStep(), 'filling'),
      this.#repeat(() => this.#againStep()),
      ...lanes.map((lane) => this.#repeat(() => this.#firstStep(lane))),
    ]);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  /** `loop`: its name in metrics. */
  async #repeat(step: () => Promise<void>, loop?: string): Promise<void> {
    const { signal } = this.#abort;
    let pauseMs = FIRST_FILL_PAUSE_MS;
    while (!signal.aborted) {
      const beganMs = performance.now();
      try {
        await step();
        if (loop !== undefined) notePass(loop, { isFailed: false, tookMs: performance.now() - beganMs });
        pauseMs = FIRST_FILL_PAUSE_MS;
      } catch (error) {
        if (signal.aborted) return;
        if (loop !== undefined) notePass(loop, { isFailed: true, tookMs: performance.now() - beganMs });
        logFailure(this.#deps.log, error, 'filling layers failed; it is tried again', { pauseMs });
        await pause(pauseMs, signal);
        pauseMs = Math.min(2 * pauseMs, LONGEST_FILL_PAUSE_MS);
      }
    }
  }

  async #firstStep(lane: number): Promise<void> {
    const { first, firstAdded, reads, layers } = this.#deps;
    const { signal } = this.#abort;
    if (first.isEmpty) return await firstAdded(signal);
    if (!mayFetchFirst(lane, reads())) return await delay(FILL_BESIDE_MS, signal);
    const filled = new Set(layers());
    const mayFetch = (layer: Layer): boolean => filled.has(layer) && !this.#isResting(layer);
    const onLost = (layer: Layer, span: number): void => {
      if (filled.has(layer)) this.#putOffSpans(layer, [span]);
    };
    const next = first.take(FILL_SPANS, mayFetch, onLost);
    if (next === undefined) return;
    const { layer, run } = next;
    let came = false;
    this.#firstRuns += 1;
    try {
      came = await this.#fetch(layer, run);
    } finally {
      this.#firstRuns -= 1;
      if (!came) this.#putOffSpans(layer, spansOf(run));
    }
  }

  /** What was put off comes first again once its layer has rested; of layers of which all is fetched it comes with the rest. */
  async #againStep(): Promise<void> {
    const { addFirst, rest } = this.#deps;
    await delay(FILL_LOOK_MS, this.#abort.signal);
    const rested = [...this.#putOff].filter(([layer]) => !this.#isResting(layer));
    if (rested.length === 0) return;
    const others = new Set(rest());
    for (const [layer, spans] of rested) {
      this.#putOff.delete(layer);
      if (!others.has(layer)) addFirst(spans.map((span) => ({ layer, span })));
    }
  }

  #putOffSpans(layer: Layer, spans: readonly number[]): void {
    const own = this.#putOff.get(layer) ?? [];
    this.#putOff.set(layer, own);
    own.push(...spans);
  }

  /** True while a layer rests because the last try brought nothing. */
  #isResting(layer: Layer): boolean {
    return (this.#rests.untilMs(layer) ?? Number.NEGATIVE_INFINITY) > this.#deps.nowMs();
  }

  async #restStep(): Promise<void> {
    const { first, rest, reads, nowMs } = this.#deps;
    const { signal } = this.#abort;
    if (!first.isEmpty || this.#firstRuns > 0) return await delay(FILL_LOOK_MS, signal);
    const all = rest();
    const missing = all.map((layer) => ({
      firstMissing: (most: number): Run | undefined => layer.presence.firstMissing(most),
      restsUntilMs: this.#rests.untilMs(layer),
    }));
    const step = nextFill(missing, reads(), nowMs());
    if (step.type === 'done') return await delay(FILL_LOOK_MS, signal);
    if (step.type === 'wait') return await delay(step.untilMs - nowMs(), signal);
    await this.#fetch(all[step.layer]!, step.run);
  }

  /** @returns whether it came. @throws what is no fault of the layer */
  async #fetch(layer: Layer, run: Run): Promise<boolean> {
    const { log, nowMs } = this.#deps;
    try {
      await layer.fetch(run);
      this.#rests.served(layer);
      return true;
    } catch (error) {
      if (takesNoWrites(error) || this.#abort.signal.aborted) throw error;
      const pauseMs = this.#rests.failed(layer, nowMs());
      const facts = { layer: layer.index.layer, pauseMs };
      logFailure(log, error, 'filling a layer failed; it is tried again, after the others', facts);
      return false;
    }
  }
}

function spansOf({ first, last }: Run): number[] {
  return Array.from({ length: last - first + 1 }, (_none, index) => first + index);
}
