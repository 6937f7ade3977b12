import { isCoded } from '@sepia/base/errors';
import { ended, logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { notePass } from '@sepia/base/metrics';

interface HousekeepingDeps<Evicted> {
  readonly log: Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>;
  /** Counts what is kept, and removes what is left over; ends early once `stopped`. @returns what there is to say of it */
  readonly count: (stopped: () => boolean) => Promise<object>;
  readonly evictor: { readonly due: boolean; run(): Promise<Evicted> };
  /** Removes partials that nobody came back for. @returns how many */
  readonly sweep: () => Promise<number>;
  /** Looks at what lies aside. */
  readonly lookAside: () => Promise<void>;
  /** An eviction ended above the high watermark. */
  readonly onTight: () => void;
}

/** What a store does by itself. */
type Chore = 'count' | 'evict';

const LACKS: Readonly<Record<Chore, string>> = {
  count: 'what is kept could not be counted, and room is made too late',
  evict: 'no room could be made',
};

/**
 * Looks after a store: what is kept is counted behind the start, what nobody needs goes, then and again every while. A
 * failure ends its part alone: the others go on, it is tried again, and is told until it is done.
 */
export class Housekeeping<Evicted> {
  readonly #deps: HousekeepingDeps<Evicted>;
  readonly #everyMs: number;
  readonly #lacks = new Map<Chore, string>();
  #first: Promise<void> | undefined;
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isCounted = false;
  #isStopped = false;

  constructor(deps: HousekeepingDeps<Evicted>, options: { readonly everyMs: number }) {
    this.#deps = deps;
    this.#everyMs = options.everyMs;
  }

  /** In words, for `/readyz`; empty if all was done. */
  get warnings(): string[] {
    return [...this.#lacks].map(
      ([chore, why]) => `cache: ${LACKS[chore]} (${why}); look after the data folder`,
    );
  }

  /** Counts, and removes what is left over; from then on it is looked after. Runs once. @throws what kept it from that, which is tried again */
  begin(): Promise<void> {
    this.#first ??= this.#begin();
    return this.#first;
  }

  /** Evicts, least recently used first, if usage is above the high watermark. */
  async evict(): Promise<Evicted> {
    return await this.#tell('evict', async () => await this.#deps.evictor.run());
  }

  /** As {@link evict} behind the caller, where it would do something. */
  evictWhenDue(): void {
    const { evictor, log, onTight } = this.#deps;
    if (!evictor.due || this.#isStopped) return;
    this.evict()
      .then(() => {
        if (evictor.due) onTight();
      })
      .catch((error: unknown) => logFailure(log, error, 'eviction failed'));
  }

  /** Nothing begins any more; resolves when the count is over. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    await ended(this.#first);
    await this.#running;
  }

  async #begin(): Promise<void> {
    try {
      await this.#count();
      if (!this.#isStopped) await this.evict();
    } finally {
      if (!this.#isStopped) this.#timer = setInterval(() => this.#keep(), this.#everyMs).unref();
    }
  }

  /** One at a time. */
  #keep(): void {
    this.#running ??= this.#look().finally(() => {
      this.#running = undefined;
    });
  }

  async #look(): Promise<void> {
    const { sweep, lookAside } = this.#deps;
    const beganMs = performance.now();
    const count = async (): Promise<void> => await this.#count();
    const counted = this.#isCounted || (await this.#try(count, 'what is kept was not counted'));
    const swept = await this.#try(sweep, 'partials were not looked through');
    this.evictWhenDue();
    const looked = await this.#try(lookAside, 'what lies aside was not looked at');
    notePass('store', { isFailed: !(counted && swept && looked), tookMs: performance.now() - beganMs });
  }

  /** True if it was done, or need not be any more. */
  async #try(work: () => Promise<unknown>, failed: string): Promise<boolean> {
    if (this.#isStopped) return true;
    try {
      await work();
      return true;
    } catch (error) {
      logFailure(this.#deps.log, error, failed);
      return false;
    }
  }

  async #count(): Promise<void> {
    const { log, count, sweep } = this.#deps;
    await this.#tell('count', async () => {
      const facts = await count(() => this.#isStopped);
      if (this.#isStopped) return;
      const partials = await sweep();
      this.#isCounted = true;
      log.info({ ...facts, partials }, 'blob store reconciled');
    });
  }

  async #tell<T>(chore: Chore, work: () => Promise<T>): Promise<T> {
    try {
      const done = await work();
      this.#lacks.delete(chore);
      return done;
    } catch (error) {
      this.#lacks.set(chore, whyOf(error));
      throw error;
    }
  }
}

function whyOf(error: unknown): string {
  const path = isCoded(error) ? error.detail['path'] : undefined;
  const why = (error as Error).message;
  return typeof path === 'string' ? `${why}: ${path}` : why;
}
