import { Passes } from '@sepia/base/async/passes';
import type { Logger } from '@sepia/base/log';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { SCHEDULE_LOOK_MS } from '../deadlines/own.ts';
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
 * neither forgets nor repeats one. Where another origin takes over, the first sweep comes a period after its start.
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
      rest: () => restMs,
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
    if (members.leaderOf('gc') !== members.selfId || collector.isRunning) return;
    const last = (await records.jobSet.entry(LAST))?.atMs;
    if (last !== undefined && nowMs() - last < this.#options.everyMs) return;
    await records.jobSet.put(LAST, {}, nowMs());
    if (last !== undefined) await collector.begin({ dryRun: false, graceMs: this.#options.graceMs });
  }
}
