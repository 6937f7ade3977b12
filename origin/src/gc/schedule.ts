import { Passes } from '@sepia/base/async/passes';
import type { Logger } from '@sepia/base/log';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { SCHEDULE_AGAIN_MS, SCHEDULE_LOOK_MS } from '../deadlines/own.ts';
import type { Collector } from './collector.ts';

/** When this origin last led a sweep, on its own disk. */
const LAST = ['gc', 'last'];

interface GcScheduleDeps {
  readonly members: Pick<Members, 'selfId' | 'leaderOf'>;
  readonly collector: Pick<Collector, 'begin' | 'isRunning'>;
  readonly records: Pick<RecordStore, 'jobSet'>;
  readonly log: Logger;
  readonly nowMs: () => number;
}

interface GcScheduleOptions {
  /** 0: never. */
  readonly everyMs: number;
  readonly graceMs: number;
}

/**
 * Begins sweeps by the clock, at the first healthy owner of the key `gc`. What it noted last is on its disk: a restart
 * neither forgets nor repeats one. Where another origin takes over, or the clock was set back behind the last, the first
 * sweep comes a period after that. One that is refused is tried again soon.
 */
export class GcSchedule {
  readonly #deps: GcScheduleDeps;
  readonly #options: GcScheduleOptions;
  readonly #passes: Passes;

  constructor(deps: GcScheduleDeps, options: GcScheduleOptions) {
    this.#deps = deps;
    this.#options = options;
    const restMs = Math.min(SCHEDULE_LOOK_MS, options.everyMs);
    this.#passes = new Passes({
      name: 'gc-schedule',
      pass: async () => await this.#look(),
      firstMs: restMs,
      rest: ({ isFailed }) => (isFailed ? Math.min(SCHEDULE_AGAIN_MS, options.everyMs) : restMs),
      log: deps.log,
      failed: 'scheduled garbage collection did not begin',
      level: 'warn',
    });
  }

  start(): void {
    if (this.#options.everyMs > 0) this.#passes.start();
  }

  async stop(): Promise<void> {
    await this.#passes.stop();
  }

  async #look(): Promise<void> {
    const { members, collector, records, nowMs } = this.#deps;
    const { everyMs, graceMs } = this.#options;
    if (members.leaderOf('gc') !== members.selfId || collector.isRunning) return;
    const last = (await records.jobSet.entry(LAST))?.atMs;
    const agoMs = last === undefined ? Number.NEGATIVE_INFINITY : nowMs() - last;
    if (agoMs >= 0 && agoMs < everyMs) return;
    await this.#note(nowMs());
    if (last === undefined || agoMs < 0) return;
    try {
      await collector.begin({ dryRun: false, graceMs });
    } catch (error) {
      await this.#note(last);
      throw error;
    }
  }

  /** An entry with a later clock stands in no way. */
  async #note(atMs: number): Promise<void> {
    const { jobSet } = this.#deps.records;
    await jobSet.remove(LAST);
    await jobSet.put(LAST, {}, atMs);
  }
}
