import { matcherOf } from '@sepia/base/names/pattern';
import { isRepositoryName, isTag } from '@sepia/base/names/repository';
import { type ConversionRule, sourceRepository } from '@sepia/cluster/conversion-rule';
import { resultSuffix } from '@sepia/cluster/conversion-rules';

type NamingRule = Pick<
  ConversionRule,
  'to' | 'result' | 'tag-suffix' | 'repository' | 'repositories' | 'tags'
>;

/** The source that a tag would be the result of, by the names that a rule gives; undefined if it gives none such. */
export function sourceOfResult(
  rule: NamingRule,
  repository: string,
  tag: string,
): { readonly repository: string; readonly tag: string } | undefined {
  const suffix = resultSuffix(rule);
  const source = sourceRepository(rule, repository);
  if (suffix === undefined || source === undefined || !tag.endsWith(suffix)) return undefined;
  const named = tag.slice(0, tag.length - suffix.length);
  if (!isTag(named) || !isRepositoryName(source) || !matcherOf(rule.repositories)(source)) return undefined;
  if (rule.tags !== undefined && !matcherOf(rule.tags)(named)) return undefined;
  return { repository: source, tag: named };
}
