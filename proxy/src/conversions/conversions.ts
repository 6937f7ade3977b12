import {
  type ConversionJob,
  type ConversionTask,
  conversionKey,
  conversionOwner,
} from '@sepia/cluster/api/conversions';
import type { ConversionRule } from '@sepia/cluster/conversion-rule';
import { ConversionRules, type TagEvent } from '@sepia/cluster/conversion-rules';
import { Settled } from '@sepia/cluster/core/settled-conversions';
import { JobQueue, type Registers } from '@sepia/records/jobs/job-queue';
import { CONVERSION_RETRY_MS, MAX_CONVERSION_RETRY_MS } from '../deadlines.ts';

/** Waits between tries of a failed conversion, and how many there are: about a day. */
const RETRY = { firstMs: CONVERSION_RETRY_MS, maxMs: MAX_CONVERSION_RETRY_MS, tries: 30 };

interface ConversionsDeps {
  readonly registers: Registers;
  readonly rules: readonly ConversionRule[];
  readonly dateMs: () => number;
  readonly chance: () => number;
}

/** The cluster's queue of conversions, and which events put what into it. */
export class Conversions {
  readonly queue: JobQueue<ConversionTask>;
  readonly #rules: ConversionRules;
  readonly #dateMs: () => number;

  constructor({ registers, rules, dateMs, chance }: ConversionsDeps) {
    this.queue = new JobQueue(
      { registers, nowMs: dateMs, chance },
      { name: 'conversions', retry: RETRY, ownerOf: conversionOwner },
    );
    this.#dateMs = dateMs;
    this.#rules = new ConversionRules(rules);
  }

  /**
   * Resolves when the task is on a quorum. One that a scan found (`isFound`) is not put in where it is settled: two scans that
   * find it at once may come before and after its job. @throws as {@link take}
   */
  async add(
    task: ConversionTask,
    isFound = false,
  ): Promise<{ readonly id: string; readonly isNew: boolean }> {
    const isSettled = (jobs: readonly object[]): boolean =>
      isFound && new Settled(jobs as readonly ConversionJob[], this.#dateMs()).has(task);
    return await this.queue.add(conversionKey(task), task, isSettled);
  }

  /** Resolves when what the rules make of the event is on a quorum. @throws `OVERLOADED`, `QUORUM_LOST`, `CONFLICT` */
  async take(event: TagEvent): Promise<void> {
    for (const task of this.#rules.tasksOf(event)) await this.add(task);
  }
}
