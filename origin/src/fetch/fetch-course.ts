import { CodedError } from '@sepia/base/errors';
import { News } from '@sepia/base/news';
import type { FetchView } from './fetch-parts.ts';

/**
 * Where one fetch stands, and who waits for it to move: `sizing → running → final`, `failed` from the first two.
 * It ends once: the first end counts, whatever else was under way then.
 */
export class FetchCourse {
  readonly #news = new News();
  readonly #over = new AbortController();
  #state: FetchView['state'] = 'sizing';
  #error: CodedError | undefined;

  get state(): FetchView['state'] {
    return this.#state;
  }

  /** What it failed with. */
  get error(): CodedError | undefined {
    return this.#error;
  }

  get isOver(): boolean {
    return this.#state === 'final' || this.#state === 'failed';
  }

  /** Aborted at the end. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Wakes all who wait: they look again whether what they wait for is there. */
  tell(): void {
    this.#news.tell();
  }

  /** `sizing → running`; false where it is further already. */
  run(): boolean {
    if (this.#state !== 'sizing') return false;
    this.#state = 'running';
    return true;
  }

  /** `→ final`, with an error `→ failed`; false where it was over already, and nothing changed. */
  end(error?: CodedError): boolean {
    if (this.isOver) return false;
    this.#state = error === undefined ? 'final' : 'failed';
    this.#error = error;
    this.#over.abort(error ?? new CodedError('STALE_ATTEMPT'));
    this.tell();
    return true;
  }

  /** What is said to who wants to read a fetch that has no bytes: its blob was stored, and is evicted by now, or it is a bug. */
  withoutBytes(): Error {
    if (this.#state !== 'final') return new TypeError('fetch without size');
    return new CodedError('NO_PEERS', { message: 'the blob was evicted while it was asked for; ask again' });
  }

  /** Resolves at the next change of anything. */
  readonly changed = async (signal: AbortSignal): Promise<void> => await this.#news.next(signal);

  /** Resolves when the size is known, or at once `final` (then the blob is in the store). @throws what it failed with */
  readonly whenSized = async (signal: AbortSignal): Promise<void> => {
    while (this.#state === 'sizing') await this.#news.next(signal);
    if (this.#error !== undefined) throw this.#error;
  };

  /** @throws what it failed with */
  readonly whenFinal = async (signal: AbortSignal): Promise<void> => {
    while (!this.isOver) await this.#news.next(signal);
    if (this.#error !== undefined) throw this.#error;
  };
}
