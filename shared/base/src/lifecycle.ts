import { boundedMs } from './bounded-ms.ts';
import { ignoreFailure, readElsewhere } from './failure.ts';

/** What holds something that must be given back. `stop` is idempotent, and resolves when it is given back. */
export interface Stoppable {
  stop(): Promise<void>;
}

/** Stops parts in the reverse order of their start; every part is stopped even if one fails. */
export class StopStack {
  readonly #stops: { name: string; stop: () => Promise<void> | void }[] = [];
  #stopping: Promise<void> | undefined;

  push(name: string, stop: () => Promise<void> | void): void {
    this.#stops.push({ name, stop });
  }

  /** Runs all stops, last pushed first. @throws {AggregateError} of what failed, at the end */
  stop(): Promise<void> {
    this.#stopping ??= this.#run();
    return this.#stopping;
  }

  async #run(): Promise<void> {
    const failures: unknown[] = [];
    for (let part = this.#stops.pop(); part !== undefined; part = this.#stops.pop()) {
      try {
        await part.stop();
      } catch (cause) {
        failures.push(new Error(`stop of ${part.name} failed`, { cause }));
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'stop failed');
  }
}

/** Runs `start`; if it throws, stops what was started so far and throws on. */
export async function startAll<T>(stops: StopStack, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    await stops.stop().catch(ignoreFailure);
    throw error;
  }
}

/** Resolves after `ms` (within what timers take), or rejects with the signal's reason. */
export async function delay(ms: number, signal?: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    if (signal?.aborted === true) return reject(signal.reason);
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, boundedMs(ms));
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Resolves after `ms`, or at once when the signal aborts: true if the whole time passed. Never rejects. */
export async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false;
  return await new Promise<boolean>((resolve) => {
    const end = (whole: boolean): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      resolve(whole);
    };
    const onAbort = (): void => end(false);
    const timer = setTimeout(end, boundedMs(ms), true);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * Resolves when `work` has, or at once when the signal aborts; leaves nothing behind at a signal that lives long.
 * @throws what `work` does, unless the signal aborts before
 */
export async function endedOrAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  readElsewhere(work);
  if (signal.aborted) return;
  let leave = (): void => {};
  const left = new Promise<void>((resolve) => {
    leave = resolve;
    signal.addEventListener('abort', leave, { once: true });
  });
  try {
    await Promise.race([work, left]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
