/** What is known of a tag, from its register. `checkedAtMs`: when the upstream last confirmed it. */
export interface TagFacts {
  readonly digest: string;
  readonly checkedAtMs: number;
}

export interface TagRules {
  readonly mode: 'none' | 'pull-through';
  readonly policy: 'mutable' | 'revalidate' | 'immutable' | 'pinned';
  readonly ttlMs: number;
  readonly staleLimitMs: number;
}

/** The default of a mode where the document names none (design, "Names"). */
export function defaultPolicy(mode: TagRules['mode']): TagRules['policy'] {
  return mode === 'none' ? 'mutable' : 'revalidate';
}

/** How a tag is answered: from its record, by asking the upstream first, or not at all. */
export type TagDecision = 'answer' | 'ask-upstream' | 'unknown';

/**
 * Mode none: the record is the truth. Pull-through: `immutable` and `pinned` tags are believed for ever once
 * seen, others for `ttlMs`, then the upstream is asked.
 */
export function decideTag(facts: TagFacts | undefined, rules: TagRules, nowMs: number): TagDecision {
  if (rules.mode === 'none') return facts === undefined ? 'unknown' : 'answer';
  if (facts === undefined) return 'ask-upstream';
  if (rules.policy === 'immutable' || rules.policy === 'pinned') return 'answer';
  return nowMs - facts.checkedAtMs < rules.ttlMs ? 'answer' : 'ask-upstream';
}

/** Age in whole seconds at which a tag may still be served although the upstream does not answer, else undefined. */
export function staleAge(facts: TagFacts | undefined, rules: TagRules, nowMs: number): number | undefined {
  if (facts === undefined) return undefined;
  const ageMs = Math.max(0, nowMs - facts.checkedAtMs);
  return ageMs <= rules.staleLimitMs ? Math.round(ageMs / 1000) : undefined;
}

/** Whether a tag may be moved from `current` to `wanted`. */
export function mayMove(current: string | undefined, wanted: string, rules: TagRules): boolean {
  return rules.policy !== 'immutable' || current === undefined || current === wanted;
}
