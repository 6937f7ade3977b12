import { type ConversionTask, conversionKey, conversionOwner } from '@sepia/cluster/api/conversions';
import type { ConversionRule } from '@sepia/cluster/conversion-rule';
import { ConversionRules, type TagEvent } from '@sepia/cluster/conversion-rules';
import { JobQueue, type Registers } from '@sepia/records/jobs/job-queue';

/** Waits between tries of a failed conversion, and how many there are: about a day. */
const RETRY = { firstMs: 10_000, maxMs: 3_600_000, tries: 30 };

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

  constructor({ registers, rules, dateMs, chance }: ConversionsDeps) {
    this.queue = new JobQueue(
      { registers, nowMs: dateMs, chance },
      { name: 'conversions', retry: RETRY, ownerOf: conversionOwner },
    );
    this.#rules = new ConversionRules(rules);
  }

  /** Resolves when what the rules make of the event is on a quorum. @throws `OVERLOADED`, `QUORUM_LOST`, `CONFLICT` */
  async take(event: TagEvent): Promise<void> {
    for (const task of this.#rules.tasksOf(event)) await this.queue.add(conversionKey(task), task);
  }
}
