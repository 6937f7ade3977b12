import { matcherOf } from '@sepia/base/names/pattern';
import { type ConversionTask, conversionKey } from '@sepia/cluster/api/conversions';
import type { ConversionRule } from '@sepia/cluster/conversion-rule';
import { JobQueue, type Registers } from '@sepia/records/jobs/job-queue';

/** Waits between tries of a failed conversion, and how many there are: about a day. */
const RETRY = { firstMs: 10_000, maxMs: 3_600_000, tries: 30 };

interface ConversionsDeps {
  readonly registers: Registers;
  readonly rules: readonly ConversionRule[];
  readonly nowMs: () => number;
  readonly chance: () => number;
}

/** A tag that was pushed or deleted. */
export interface TagEvent {
  readonly kind: 'push' | 'delete';
  readonly upstream: string;
  readonly repository: string;
  readonly tag: string;
  readonly digest?: string | undefined;
}

/** The cluster's queue of conversions, and which events put what into it. */
export class Conversions {
  readonly queue: JobQueue<ConversionTask>;
  readonly #rules: readonly {
    readonly rule: ConversionRule;
    readonly matches: (repository: string, tag: string) => boolean;
  }[];

  constructor({ registers, rules, nowMs, chance }: ConversionsDeps) {
    this.queue = new JobQueue({ registers, nowMs, chance }, { name: 'conversions', retry: RETRY });
    this.#rules = rules.map((rule) => {
      const repository = matcherOf(rule.repositories);
      const tag = rule.tags === undefined ? () => true : matcherOf(rule.tags);
      return { rule, matches: (name, one) => repository(name) && tag(one) };
    });
  }

  /** Tasks that the rules make of an event. A tag that is a result by its name is none's source. */
  tasksOf(event: TagEvent): ConversionTask[] {
    const { upstream, repository, tag, digest } = event;
    const tasks: ConversionTask[] = [];
    for (const { rule, matches } of this.#rules) {
      if (rule.from !== upstream || !matches(repository, tag)) continue;
      // A result gets indexes like any image; they are found by its layers, so they need not go with it.
      const isIndex = rule.to === 'index';
      if (!isIndex && this.#isResult(upstream, tag)) continue;
      if (event.kind === 'delete' && (isIndex || !rule['delete-with-source'])) continue;
      const kind = event.kind === 'delete' ? 'remove' : isIndex ? 'index' : 'convert';
      tasks.push({
        kind,
        rule: rule.name,
        upstream,
        repository,
        tag,
        ...(digest === undefined ? {} : { digest }),
      });
    }
    return tasks;
  }

  /** Resolves when what the rules make of the event is on a quorum. @throws `OVERLOADED`, `QUORUM_LOST`, `CONFLICT` */
  async take(event: TagEvent): Promise<void> {
    for (const task of this.tasksOf(event)) await this.queue.add(conversionKey(task), task);
  }

  /** True for a tag that ends as results of this upstream do; whether it is one says its manifest, later. */
  #isResult(upstream: string, tag: string): boolean {
    return this.#rules.some(({ rule }) => {
      const suffix = rule['tag-suffix'];
      return rule.to !== 'index' && rule.from === upstream && suffix !== '' && tag.endsWith(suffix);
    });
  }
}
