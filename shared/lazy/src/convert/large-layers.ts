import { Slots } from '@sepia/base/async/slots';
import { CodedError } from '@sepia/base/errors';

/**
 * Room for layers of very many entries: of all that a process works on one at a time has its entries in memory; the others
 * wait with those that they have read. It is taken when all bytes of a layer are here, for nobody knows how long a registry
 * takes. See `EntryBudget.isLarge`.
 */
export class LargeLayers {
  readonly #slots = new Slots({ slots: 1 });

  /** For one layer; dispose it when the layer's entries are not needed any more. */
  claim(signal?: AbortSignal): LargeClaim {
    return new LargeClaim(this.#slots, signal);
  }
}

/** What one layer has of the room: nothing, until it is large. */
export class LargeClaim implements Disposable {
  readonly #slots: Slots;
  readonly #signal: AbortSignal;
  readonly #over = new AbortController();
  #release: (() => void) | undefined;

  constructor(slots: Slots, signal: AbortSignal | undefined) {
    this.#slots = slots;
    this.#signal = signal === undefined ? this.#over.signal : AbortSignal.any([signal, this.#over.signal]);
  }

  /** Waits for the room, once. @throws the signal's reason, `DRAINING` where it was disposed meanwhile */
  async take(): Promise<void> {
    if (this.#release !== undefined) return;
    const release = await this.#slots.acquire(this.#signal);
    if (this.#over.signal.aborted) release();
    else this.#release = release;
  }

  [Symbol.dispose](): void {
    this.#over.abort(new CodedError('DRAINING', { message: 'the layer is not read any more' }));
    this.#release?.();
  }
}
