import { CodedError, isCoded, isOutOfRoom } from '@sepia/base/errors';
import { isBug, logFailure, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { notePass } from '@sepia/base/metrics';
import type { Reach } from '@sepia/base/reach';
import type {
  ConversionJob,
  ConversionOutcome,
  ConversionProgress,
  ConversionTask,
} from '@sepia/cluster/api/conversions';
import { LOOK_EVERY_MS, RENEW_MS } from './deadlines.ts';
import type { QueueClient } from './net/queue-client.ts';

interface WorkerDeps {
  readonly queue: QueueClient;
  /** Names this run of this accelerator at the queue; each hold adds a number of its own. */
  readonly holder: string;
  readonly run: (
    task: ConversionTask,
    onProgress: (progress: ConversionProgress) => void,
    signal: AbortSignal,
  ) => Promise<ConversionOutcome>;
  readonly log: Logger;
  /** Whether the queue answers. */
  readonly reach: Reach;
  readonly onEnd: (outcome: ConversionOutcome['outcome'] | 'failed') => void;
}

interface WorkerOptions {
  readonly workers: number;
  readonly lookEveryMs?: number;
  readonly renewMs?: number;
}

/** Failures of a job, of any kind, after which a registry's refusal is final. */
const MAX_REFUSED = 3;

/** A job in the hands of this accelerator. */
interface Hold {
  readonly job: ConversionJob;
  /** Whose the queue takes it for: of each time that it gave jobs away another. */
  readonly holder: string;
  /** Says that the queue takes it for another's. */
  readonly lost: AbortController;
}

/** Takes jobs from the cluster's queue and carries them out, a few at a time. */
export class Worker {
  readonly #deps: WorkerDeps;
  #options: Required<WorkerOptions>;
  readonly #stopped = new AbortController();
  readonly #running = new Set<Promise<void>>();
  /** By id: the newest hold of it, and its end. */
  readonly #held = new Map<string, { readonly hold: Hold; readonly run: Promise<void> }>();
  #takes = 0;
  readonly #progress = new Map<string, ConversionProgress>();
  #loop: Promise<void> | undefined;
  /** Ends the pause before the next look: a worker is free. */
  #wake = new AbortController();

  constructor(deps: WorkerDeps, options: WorkerOptions) {
    this.#deps = deps;
    this.#options = { lookEveryMs: LOOK_EVERY_MS, renewMs: RENEW_MS, ...options };
  }

  get running(): number {
    return this.#running.size;
  }

  /** How far a job is that runs here: newer than what the queue knows. */
  progressOf(id: string): ConversionProgress | undefined {
    return this.#progress.get(id);
  }

  /** So many at once from now on; what runs goes on. */
  adjust(workers: number): void {
    this.#options = { ...this.#options, workers };
    this.#wake.abort(new CodedError('TIMEOUT', { message: 'the number of workers changed' }));
  }

  start(): void {
    this.#loop = this.#look();
  }

  /** Stops what runs; those jobs go back to the queue at once. */
  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    await this.#loop;
    await Promise.allSettled(this.#running);
  }

  async #look(): Promise<void> {
    const { queue, log, reach } = this.#deps;
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      const free = this.#options.workers - this.#running.size;
      const beganMs = performance.now();
      let isFailed = false;
      try {
        // A word about an earlier hold that is said again, as where an answer was lost, must not count for a later one.
        const holder = `${this.#deps.holder}.${++this.#takes}`;
        const jobs = free > 0 ? await queue.take(holder, free) : [];
        if (free > 0) reach.answered();
        for (const job of jobs) this.#begin({ job, holder, lost: new AbortController() });
      } catch (error) {
        const kind = isCoded(error, 'SIGNATURE_INVALID') ? 'refused' : 'silent';
        reach.failed('queue', kind, String((error as Error).message), performance.now());
        logFailure(log, error, 'the queue of conversions does not answer');
        isFailed = true;
      }
      if (free > 0) notePass('jobs', { isFailed, tookMs: performance.now() - beganMs });
      await this.#pause();
    }
  }

  /** Until it is time to look again, or a worker is free. */
  async #pause(): Promise<void> {
    const signal = AbortSignal.any([this.#stopped.signal, this.#wake.signal]);
    try {
      await delay(this.#options.lookEveryMs, signal);
    } catch (error) {
      throwIfBug(error);
      if (!signal.aborted) throw error;
    }
    if (this.#wake.signal.aborted) this.#wake = new AbortController();
  }

  #begin(hold: Hold): void {
    const { id } = hold.job;
    const before = this.#held.get(id);
    before?.hold.lost.abort(
      new CodedError('CONFLICT', { message: 'the queue gave the job away once more, to this accelerator' }),
    );
    const run = this.#run(hold, before?.run).finally(() => {
      this.#running.delete(run);
      if (this.#held.get(id)?.run === run) this.#held.delete(id);
      this.#progress.delete(id);
      this.#wake.abort(new CodedError('TIMEOUT', { message: 'a worker is free' }));
    });
    this.#held.set(id, { hold, run });
    this.#running.add(run);
  }

  /** `before`: the end of an earlier hold. One job is not worked on twice at once, and is held while it waits. */
  async #run(hold: Hold, before: Promise<void> | undefined): Promise<void> {
    const { job, holder, lost } = hold;
    const { queue, log, onEnd } = this.#deps;
    const signal = AbortSignal.any([this.#stopped.signal, lost.signal]);
    const over = new AbortController();
    const renewing = this.#renew(hold, over.signal);
    const facts = { job: job.id, ...job.payload };
    const note = (progress: ConversionProgress): void => void this.#progress.set(job.id, progress);
    let end: () => Promise<void>;
    try {
      await before;
      signal.throwIfAborted();
      const outcome = await this.#deps.run(job.payload, note, signal);
      log.info({ ...facts, ...outcome }, 'conversion ended');
      onEnd(outcome.outcome);
      end = () => queue.finish(job.id, holder, outcome);
    } catch (error) {
      if (this.#stopped.signal.aborted) end = () => queue.release(job.id, holder);
      else if (lost.signal.aborted) {
        log.warn(facts, 'conversion stopped: it was cancelled, or is another accelerator’s now');
        end = async () => undefined;
      } else {
        logFailure(log, error, 'conversion failed', facts);
        onEnd('failed');
        const text = reasonOf(error);
        end = () => queue.fail(job.id, holder, text, isFinal(error, job.tries));
      }
    }
    over.abort(new CodedError('TIMEOUT', { message: 'the job is over' }));
    await renewing;
    if (!lost.signal.aborted) await this.#tell(end, facts);
  }

  /** An end that the queue did not hear of costs a repetition, which finds everything done. */
  async #tell(end: () => Promise<void>, facts: Readonly<Record<string, unknown>>): Promise<void> {
    try {
      await end();
    } catch (error) {
      logFailure(
        this.#deps.log,
        error,
        'the queue did not hear how a conversion ended; it runs again',
        facts,
      );
    }
  }

  async #renew({ job, holder, lost }: Hold, over: AbortSignal): Promise<void> {
    const { queue, log } = this.#deps;
    for (;;) {
      try {
        await delay(this.#options.renewMs, over);
      } catch (error) {
        throwIfBug(error);
        return;
      }
      try {
        if (await queue.renew(job.id, holder, this.progressOf(job.id) ?? { layers: [] })) continue;
        lost.abort(new CodedError('CONFLICT', { message: 'the job is not this accelerator’s any more' }));
        return;
      } catch (error) {
        logFailure(log, error, 'hold of a conversion not renewed', { job: job.id });
      }
    }
  }
}

/**
 * True if no later try would end otherwise: a bug fails each time alike, a disk or socket may be better next time. What a registry
 * answered may tell of its state at a bad moment, as of an upload that its restart ended: it counts once the job
 * has failed {@link MAX_REFUSED} times.
 */
function isFinal(error: unknown, tries: number): boolean {
  if (!isCoded(error)) return isBug(error);
  return !error.facts.retryable && (error.detail['status'] === undefined || tries + 1 >= MAX_REFUSED);
}

/** What a job says of its failure to whoever may see it. */
function reasonOf(error: unknown): string {
  if (isCoded(error)) return `${error.code}: ${error.message}`;
  if (isOutOfRoom(error)) return 'DISK_FULL: the data folder of the accelerator has no room for the layer';
  return 'INTERNAL: see the log of the accelerator';
}
