import { isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
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
  /** The layers that something may be fetched of, as they are now. */
  readonly layers: () => readonly Layer[];
  /** Those of which all is fetched; of the others only what comes first. */
  readonly rest: () => readonly Layer[];
  /** What comes before all else. */
  readonly first: Pick<FirstSpans<Layer>, 'isEmpty' | 'take'>;
  /** Ends when something is put into it; throws the signal's reason. */
  readonly firstAdded: (signal: AbortSignal) => Promise<void>;
  readonly reads: () => Reads;
  readonly nowMs: () => number;
}

/**
 * Fetches what a start reads first, also beside programs that wait; then what nobody has read yet, while nobody waits. A
 * layer of which nothing comes is tried again, ever more slowly, behind all others; with a full disk everything waits.
 */
export class Filler<Layer extends Filled> {
  readonly #deps: FillerDeps<Layer>;
  readonly #abort = new AbortController();
  readonly #running: Promise<unknown>;
  readonly #rests = new Rests<Layer>();
  #firstRuns = 0;

  constructor(deps: FillerDeps<Layer>) {
    this.#deps = deps;
    const lanes = Array.from({ length: FIRST_LANES }, (_none, lane) => lane);
    this.#running = Promise.all([
      this.#repeat(() => this.#restStep()),
      ...lanes.map((lane) => this.#repeat(() => this.#firstStep(lane))),
    ]);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async #repeat(step: () => Promise<void>): Promise<void> {
    const { signal } = this.#abort;
    let pauseMs = FIRST_FILL_PAUSE_MS;
    while (!signal.aborted) {
      try {
        await step();
        pauseMs = FIRST_FILL_PAUSE_MS;
      } catch (error) {
        if (signal.aborted) return;
        logFailure(this.#deps.log, error, 'filling layers failed; it is tried again', { pauseMs });
        await Promise.race([delay(pauseMs), aborted(signal)]);
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
    // Where a run failed, what is left of its layer comes with the rest.
    const mayFetch = (layer: Layer): boolean => filled.has(layer) && this.#rests.untilMs(layer) === undefined;
    const next = first.take(FILL_SPANS, mayFetch);
    if (next === undefined) return;
    this.#firstRuns += 1;
    try {
      await this.#fetch(next.layer, next.run);
    } finally {
      this.#firstRuns -= 1;
    }
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

  /** @throws what is no fault of the layer */
  async #fetch(layer: Layer, run: Run): Promise<void> {
    const { log, nowMs } = this.#deps;
    try {
      await layer.fetch(run);
      this.#rests.served(layer);
    } catch (error) {
      if (isCoded(error, 'DISK_FULL') || this.#abort.signal.aborted) throw error;
      const pauseMs = this.#rests.failed(layer, nowMs());
      const facts = { layer: layer.index.layer, pauseMs };
      logFailure(log, error, 'filling a layer failed; it is tried again, after the others', facts);
    }
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((settle) => signal.addEventListener('abort', () => settle(), { once: true }));
}
