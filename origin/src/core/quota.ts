import type { RepositoryQuota } from '@sepia/shared/cluster/document';
import { matcherOf, type NameMatcher } from '@sepia/shared/names/pattern';

/** Quotas of one upstream, ready to be looked up. */
export type QuotaRules = readonly { readonly matches: NameMatcher; readonly sizeBytes: number }[];

export function quotaRules(quotas: readonly RepositoryQuota[]): QuotaRules {
  return quotas.map(({ repositories, size }) => ({ matches: matcherOf(repositories), sizeBytes: size }));
}

/** Bytes that a repository may have: of the first rule that matches it; undefined where none does. */
export function quotaOf(rules: QuotaRules, repository: string): number | undefined {
  return rules.find((rule) => rule.matches(repository))?.sizeBytes;
}
