import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { News } from '@sepia/base/news';
import { LOOK_EVERY_MS } from '../deadlines.ts';
import type { JobTexts } from './core/job-changes.ts';

/** The queue as it was seen last. */
export interface JobView {
  readonly jobs: JobTexts;
  /** Ids of jobs that ended. */
  readonly ended: ReadonlySet<string>;
  /** Why the newest look failed: `jobs` is what was seen before. */
  readonly lack?: string;
}

/** The fields of a job that are read here; the others are passed on unchanged. */
interface WatchedJob {
  readonly id: string;
  readonly status: 'PROCESSING' | 'COMPLETED' | 'FAILED';
}

interface WatchDeps {
  readonly list: () => Promise<readonly WatchedJob[]>;
  readonly log: Logger;
}

const NOTHING: JobView = { jobs: new Map(), ended: new Set() };

/** Polls the cluster's queue of jobs while at least one client watches, once for all of them. */
export class JobWatch {
  readonly #deps: WatchDeps;
  readonly #everyMs: number;
  readonly #news = new News();
  #view: JobView | undefined;
  #watching = 0;
  #looking: AbortController | undefined;

  constructor(deps: WatchDeps, options: { readonly lookEveryMs?: number } = {}) {
    this.#deps = deps;
    this.#everyMs = options.lookEveryMs ?? LOOK_EVERY_MS;
  }

  get watching(): number {
    return this.#watching;
  }

  /**
   * Views as they come, also of a queue in which nothing changed; who is slow gets the newest and misses those before it.
   * Ends with the reason of `signal`.
   */
  async *views(signal: AbortSignal): AsyncGenerator<JobView, never> {
    this.#watching += 1;
    if (this.#watching === 1) this.#begin();
    try {
      let told: JobView | undefined;
      for (;;) {
        signal.throwIfAborted();
        if (this.#view === undefined || this.#view === told) await this.#news.next(signal);
        else {
          told = this.#view;
          yield told;
        }
      }
    } finally {
      this.#watching -= 1;
      if (this.#watching === 0) this.#end();
    }
  }

  #begin(): void {
    this.#looking = new AbortController();
    void this.#look(this.#looking.signal);
  }

  #end(): void {
    this.#looking?.abort(new CodedError('TIMEOUT', { message: 'nobody watches' }));
    this.#view = undefined;
  }

  async #look(signal: AbortSignal): Promise<void> {
    do {
      const view = await this.#viewNow();
      if (signal.aborted) return;
      this.#view = view;
      this.#news.tell();
    } while (await pause(this.#everyMs, signal));
  }

  async #viewNow(): Promise<JobView> {
    try {
      const jobs = await this.#deps.list();
      return {
        jobs: new Map(jobs.map((job) => [job.id, JSON.stringify(job)])),
        ended: new Set(jobs.filter(({ status }) => status !== 'PROCESSING').map(({ id }) => id)),
      };
    } catch (error) {
      logFailure(this.#deps.log, error, 'the queue of conversions does not answer those who watch it');
      return { ...(this.#view ?? NOTHING), lack: String((error as Error).message) };
    }
  }
}
