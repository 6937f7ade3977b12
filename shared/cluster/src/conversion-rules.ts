import { isDigest } from '@sepia/base/digest';
import { matcherOf } from '@sepia/base/names/pattern';
import type { ConversionTask } from './api/conversions.ts';
import { type ConversionRule, tagSuffix } from './conversion-rule.ts';

/** A tag that was pushed or deleted, or that is there; an image that was brought along before anybody pulls it. */
export interface TagEvent {
  readonly kind: 'push' | 'delete' | 'preheat';
  readonly upstream: string;
  readonly repository: string;
  /** Or a digest, where an image is brought along by it. */
  readonly tag: string;
  readonly digest?: string | undefined;
}

interface Matching {
  readonly rule: ConversionRule;
  readonly isRepository: (repository: string) => boolean;
  readonly isTag: (tag: string) => boolean;
}

/** What the rules of a cluster document make of tags: one answer for webhooks, the API and the scan. */
export class ConversionRules {
  readonly #rules: readonly Matching[];

  constructor(rules: readonly ConversionRule[]) {
    this.#rules = rules.map((rule) => ({
      rule,
      isRepository: matcherOf(rule.repositories),
      isTag: rule.tags === undefined ? () => true : matcherOf(rule.tags),
    }));
  }

  /** Tasks that the rules make of an event. A tag that is a result by its name is none's source. */
  tasksOf(event: TagEvent): ConversionTask[] {
    const { upstream, repository, tag, digest } = event;
    const tasks: ConversionTask[] = [];
    for (const { rule, isRepository, isTag } of this.#rules) {
      if (rule.from !== upstream || !isRepository(repository) || !(isDigest(tag) || isTag(tag))) continue;
      // A result gets indexes like any image; they are found by its layers, so they need not go with it.
      const isIndex = rule.to === 'index';
      if (!isIndex && this.isResultTag(upstream, tag)) continue;
      // Who brings an image along asks for what its start needs, not for another image.
      if (event.kind === 'preheat' && !isIndex) continue;
      if (event.kind === 'delete' && (isIndex || !rule['delete-with-source'])) continue;
      const kind = event.kind === 'delete' ? 'remove' : isIndex ? 'index' : 'convert';
      const said = digest === undefined ? {} : { digest };
      tasks.push({ kind, rule: rule.name, upstream, repository, tag, ...said });
    }
    return tasks;
  }

  /** True for a tag that ends as results of this upstream do; whether it is one says its manifest, later. */
  isResultTag(upstream: string, tag: string): boolean {
    return this.#rules.some(({ rule }) => {
      const suffix = resultSuffix(rule);
      return rule.from === upstream && suffix !== undefined && suffix !== '' && tag.endsWith(suffix);
    });
  }
}

/** What tags of a rule's results end with; undefined if its results have no tags. */
export function resultSuffix(rule: Pick<ConversionRule, 'to' | 'result' | 'tag-suffix'>): string | undefined {
  return rule.to === 'index' || rule.result === 'referrer' ? undefined : tagSuffix(rule);
}
