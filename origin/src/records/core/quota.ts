import { matcherOf, type NameMatcher } from '@sepia/base/names/pattern';
import type { RepositoryQuota } from '@sepia/cluster/document';

/** Quotas of one upstream, ready to be looked up. */
export type QuotaRules = readonly { readonly matches: NameMatcher; readonly sizeBytes: number }[];

export function quotaRules(quotas: readonly RepositoryQuota[]): QuotaRules {
  return quotas.map(({ repositories, size }) => ({ matches: matcherOf(repositories), sizeBytes: size }));
}

/** Bytes that a repository may have: of the first rule that matches it; undefined where none does. */
export function quotaOf(rules: QuotaRules, repository: string): number | undefined {
  return rules.find((rule) => rule.matches(repository))?.sizeBytes;
}
