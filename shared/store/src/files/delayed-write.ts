import { ended, logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';

interface Options {
  readonly delayMs: number;
  /** Writes what is true then. */
  readonly write: (synced: boolean) => Promise<void>;
  /** What a log line says of a delayed write that failed, and of what. */
  readonly failed: string;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly log: Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>;
}

/** A file that follows what changes often: written a while after the first change, once at a time. */
export class DelayedWrite {
  readonly #options: Options;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: Options) {
    this.#options = options;
  }

  /** It is to be written; a failure is logged, and the next change tries again. */
  changed(): void {
    const { delayMs, failed, facts, log } = this.#options;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.write(false).catch((error: unknown) => logFailure(log, error, failed, facts, 'debug'));
    }, delayMs).unref();
  }

  /** Writes now, after what is under way. @throws what `write` does */
  write(synced: boolean): Promise<void> {
    this.cancel();
    const writing = this.#writing.then(async () => await this.#options.write(synced));
    this.#writing = ended(writing);
    return writing;
  }

  /** What is not under way is not written. */
  cancel(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** As {@link cancel}; resolves when what is under way has ended. */
  async stop(): Promise<void> {
    this.cancel();
    await this.#writing;
  }
}
