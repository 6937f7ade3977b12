import { logFailure } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { nextFill } from './core/fill.ts';
import type { LazyLayer } from './lazy-layer.ts';

interface FillerDeps {
  readonly log: Logger;
  /** The layers that are to be filled, as they are now. */
  readonly layers: () => readonly LazyLayer[];
  readonly reads: () => { readonly waiting: number; readonly lastReadMs: number };
  readonly nowMs: () => number;
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** Layers may be added, whose first files a start waits for: looked at this often while all are whole. */
const IDLE_MS = 500;

/** Fetches what nobody has read yet, while nobody waits. A failure is tried again, ever more slowly. */
export class Filler {
  readonly #deps: FillerDeps;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;

  constructor(deps: FillerDeps) {
    this.#deps = deps;
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { reads, nowMs, log } = this.#deps;
    const { signal } = this.#abort;
    let pauseMs = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      const layers = this.#deps.layers();
      const step = nextFill(
        layers.map(({ presence, first }) => ({
          firstWanted: (most) => presence.firstMissingOf(first, most),
          firstMissing: (most) => presence.firstMissing(most),
        })),
        reads(),
        nowMs(),
      );
      try {
        if (step.type === 'done') await delay(IDLE_MS, signal);
        else if (step.type === 'wait') await delay(step.untilMs - nowMs(), signal);
        else {
          await layers[step.layer]!.fetch(step.run);
          pauseMs = FIRST_PAUSE_MS;
        }
      } catch (error) {
        if (signal.aborted) return;
        logFailure(log, error, 'filling a layer failed; it is tried again', { pauseMs });
        await Promise.race([delay(pauseMs), aborted(signal)]);
        pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
      }
    }
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((settle) => signal.addEventListener('abort', () => settle(), { once: true }));
}
