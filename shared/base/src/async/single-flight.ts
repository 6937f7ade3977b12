import { CodedError, isCoded } from '../errors.ts';
import { ended, readElsewhere, throwIfBug } from '../failure.ts';

interface Flight<T> {
  readonly abort: AbortController;
  readonly promise: Promise<T>;
  /** It goes on when all who wait for it have left. */
  readonly stays: boolean;
  users: number;
  isOver: boolean;
}

/** Whether what is under way ends with "unknown": whoever came later asks once more, for it may exist by now. */
export async function saidUnknown(running: Promise<unknown>): Promise<boolean> {
  return await running.then(
    () => false,
    (error: unknown) => {
      throwIfBug(error);
      return isUnknown(error);
    },
  );
}

function isUnknown(error: unknown): boolean {
  return isCoded(error, 'BLOB_UNKNOWN') || isCoded(error, 'MANIFEST_UNKNOWN');
}

/**
 * One run at a time for each key: who asks for what is under way joins it and gets its outcome. A run is aborted when
 * all who wait for it have left, unless it is {@link SingleFlight.share shared}. "Unknown" is no outcome for who came
 * later (it may exist since): they run or join one more, which began after they came.
 */
export class SingleFlight<K, T> {
  readonly #flights = new Map<K, Flight<T>>();
  readonly #joinMs: number | undefined;

  /** `joinMs`: a run takes in nobody after this, so that one that hangs is not for all who come; for ever unless given. */
  constructor(options: { readonly joinMs?: number } = {}) {
    this.#joinMs = options.joinMs;
  }

  has(key: K): boolean {
    return this.#flights.has(key);
  }

  /** Keys of which something is under way. */
  get size(): number {
    return this.#flights.size;
  }

  /** Resolves when what is under way now has ended, well or not: of `key`, or of all. */
  async idle(key?: K): Promise<void> {
    const flights = key === undefined ? [...this.#flights.values()] : [this.#flights.get(key)];
    await Promise.all(flights.map(async (flight) => await ended(flight?.promise)));
  }

  /** Who asks from now on joins nothing that is under way; it goes on for who waits for it, and ends with them. */
  forget(key: K): void {
    this.#flights.delete(key);
  }

  /**
   * As {@link run}, for work that is worth its while whoever leaves: it goes on to its end. `unwanted` is aborted when all
   * have left, and the work may end with its reason before it costs anything; who joined it since has it begun anew.
   * @throws what the work fails with; the reason of `signal`, for this caller alone
   */
  async share(
    key: K,
    work: (unwanted: AbortSignal) => Promise<T>,
    signal?: AbortSignal | undefined,
  ): Promise<T> {
    return await this.#joined(key, work, signal, true);
  }

  /** Runs `work`, or joins the run of `key`. @throws what the run fails with; the reason of `signal`, for this caller alone */
  async run(key: K, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    return await this.#joined(key, work, signal, false);
  }

  async #joined(
    key: K,
    work: (signal: AbortSignal) => Promise<T>,
    signal: AbortSignal | undefined,
    stays: boolean,
  ): Promise<T> {
    for (let isLast = false; ; ) {
      signal?.throwIfAborted();
      isLast ||= !this.#flights.has(key);
      const flight = this.#flights.get(key) ?? this.#begin(key, work, stays);
      try {
        return await this.#join(key, flight, signal);
      } catch (error) {
        if (signal?.aborted === true) throw error;
        // Given up because nobody waited, before this caller came.
        if (flight.abort.signal.aborted && error === flight.abort.signal.reason) continue;
        if (isLast || !isUnknown(error)) throw error;
        isLast = true;
      }
    }
  }

  async #join(key: K, flight: Flight<T>, signal: AbortSignal | undefined): Promise<T> {
    if (signal === undefined) {
      // Who cannot leave keeps it running.
      flight.users = Number.POSITIVE_INFINITY;
      return await flight.promise;
    }
    flight.users += 1;
    let onAbort = (): void => {};
    try {
      return await new Promise<T>((resolve, reject) => {
        onAbort = () => reject(signal.reason);
        signal.addEventListener('abort', onAbort, { once: true });
        flight.promise.then(resolve, reject);
      });
    } finally {
      signal.removeEventListener('abort', onAbort);
      flight.users -= 1;
      if (flight.users === 0) this.#leave(key, flight, signal);
    }
  }

  #begin(key: K, work: (signal: AbortSignal) => Promise<T>, stays: boolean): Flight<T> {
    const abort = new AbortController();
    const close = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    const closing = this.#joinMs === undefined ? undefined : setTimeout(close, this.#joinMs);
    const promise = work(abort.signal).finally(() => {
      clearTimeout(closing);
      flight.isOver = true;
      close();
    });
    const flight: Flight<T> = { abort, promise, stays, users: 0, isOver: false };
    readElsewhere(promise);
    this.#flights.set(key, flight);
    return flight;
  }

  #leave(key: K, flight: Flight<T>, signal: AbortSignal): void {
    if (flight.isOver) return;
    if (!flight.stays && this.#flights.get(key) === flight) this.#flights.delete(key);
    flight.abort.abort(
      signal.aborted ? signal.reason : new CodedError('TIMEOUT', { message: 'nobody waits' }),
    );
  }
}
