import { matcherOf, type NameMatcher } from '@sepia/base/names/pattern';

/** What is known of a tag, from its register. `checkedAtMs`: when the upstream last confirmed it. */
export interface TagFacts {
  readonly digest: string;
  readonly checkedAtMs: number;
  /** It awaits write-back. */
  readonly owed?: unknown;
}

export type TagPolicy = 'mutable' | 'revalidate' | 'immutable' | 'pinned';

/**
 * What holds for one tag: its policy, how long it is served without asking its upstream, and how long while that does not answer,
 * in ms.
 */
export interface TagRules {
  readonly mode: 'none' | 'pull-through' | 'write-back';
  readonly policy: TagPolicy;
  readonly ttlMs: number;
  readonly staleLimitMs: number;
}

/** The part of an upstream of the cluster document that this needs. */
interface PolicySource {
  readonly mode: TagRules['mode'];
  readonly tags: {
    readonly policy?: TagPolicy | undefined;
    readonly ttl: number;
    readonly 'stale-limit': number;
    readonly overrides: readonly {
      readonly repositories: readonly string[];
      readonly tags?: readonly string[] | undefined;
      readonly policy: TagPolicy;
      readonly ttl?: number | undefined;
      readonly 'stale-limit'?: number | undefined;
    }[];
  };
}

/** The default of a mode where the document names none. */
export function defaultPolicy(mode: TagRules['mode']): TagPolicy {
  return mode === 'none' ? 'mutable' : 'revalidate';
}

/** The rules of each tag of one upstream: those of the first override that matches, else the upstream's own. */
export class TagPolicies {
  readonly #own: TagRules;
  readonly #overrides: readonly {
    readonly repository: NameMatcher;
    readonly tag: NameMatcher;
    readonly rules: TagRules;
  }[];

  constructor({ mode, tags }: PolicySource) {
    this.#own = {
      mode,
      policy: tags.policy ?? defaultPolicy(mode),
      ttlMs: tags.ttl,
      staleLimitMs: tags['stale-limit'],
    };
    this.#overrides = tags.overrides.map((one) => ({
      repository: matcherOf(one.repositories),
      tag: one.tags === undefined ? () => true : matcherOf(one.tags),
      rules: {
        mode,
        policy: one.policy,
        ttlMs: one.ttl ?? tags.ttl,
        staleLimitMs: one['stale-limit'] ?? tags['stale-limit'],
      },
    }));
  }

  rulesOf(repository: string, tag: string): TagRules {
    const found = this.#overrides.find((one) => one.repository(repository) && one.tag(tag));
    return found?.rules ?? this.#own;
  }

  /** True if some tag of the repository may be immutable. */
  mayKeep(repository: string): boolean {
    return (
      this.#own.policy === 'immutable' ||
      this.#overrides.some((one) => one.rules.policy === 'immutable' && one.repository(repository))
    );
  }
}

/** How a tag is answered: from its record, by asking the upstream first, or not at all. */
export type TagDecision = 'answer' | 'ask-upstream' | 'unknown';

/**
 * Mode none: the record is the truth, and so it is of a tag that awaits write-back. Else: `immutable` and `pinned` tags are believed for ever once
 * seen, `mutable` ones never without asking, others for `ttlMs`.
 */
export function decideTag(facts: TagFacts | undefined, rules: TagRules, nowMs: number): TagDecision {
  if (rules.mode === 'none') return facts === undefined ? 'unknown' : 'answer';
  if (facts?.owed !== undefined) return 'answer';
  if (facts === undefined || rules.policy === 'mutable') return 'ask-upstream';
  if (rules.policy === 'immutable' || rules.policy === 'pinned') return 'answer';
  // Of a check that is far ahead only a wrong clock can tell: it holds nothing until that time comes.
  return Math.abs(nowMs - facts.checkedAtMs) < rules.ttlMs ? 'answer' : 'ask-upstream';
}

/**
 * True if a known tag may be asked for upstream at all: not one that never expires (`immutable`, `pinned`), nor one whose
 * change is still owed there.
 */
export function mayAsk(facts: TagFacts | undefined, rules: TagRules): boolean {
  return (
    facts?.owed === undefined &&
    rules.mode !== 'none' &&
    rules.policy !== 'immutable' &&
    rules.policy !== 'pinned'
  );
}

/** Age in whole seconds at which a tag may still be served although the upstream does not answer, else undefined. */
export function staleAge(facts: TagFacts | undefined, rules: TagRules, nowMs: number): number | undefined {
  if (facts === undefined) return undefined;
  const ageMs = Math.max(0, nowMs - facts.checkedAtMs);
  return ageMs <= rules.staleLimitMs ? Math.round(ageMs / 1000) : undefined;
}

/** What wants to move a tag: `push` and `set` are explicit acts, `revalidate` is what the upstream says. */
export type TagMover = 'push' | 'revalidate' | 'set';

/**
 * Whether a tag may be moved from `current` to `wanted`. An `immutable` one never; a `pinned` one by an explicit act
 * alone, whatever the upstream says later.
 */
export function mayMove(
  current: string | undefined,
  wanted: string,
  rules: TagRules,
  mover: TagMover,
): boolean {
  if (current === undefined || current === wanted) return true;
  if (rules.policy === 'immutable') return false;
  return rules.policy !== 'pinned' || mover !== 'revalidate';
}

/**
 * Why `sepia tag set` cannot hold for a tag, or undefined if it can: what follows the upstream would be moved back
 * at the next question.
 */
export function setFault(rules: TagRules): string | undefined {
  if (rules.mode !== 'pull-through' || rules.policy === 'pinned' || rules.policy === 'immutable')
    return undefined;
  return `policy ${rules.policy} follows the upstream and would move it back; make the tag pinned first (tags.overrides)`;
}
