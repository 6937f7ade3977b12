import { type ConversionRule, resultRepository, tagSuffix } from '@sepia/cluster/conversion-rule';

/** Where a result goes: repository and tag at the registry of its source; the tag of a referrer is its source's. */
export interface ResultName {
  readonly repository: string;
  readonly tag: string;
}

const MAX_TAG = 128;

/** The repository and tag of a result, by its rule, or why there can be none. Of a referrer: those of its source. */
export function resultName(
  rule: Pick<ConversionRule, 'to' | 'result' | 'repository' | 'tag-suffix'>,
  repository: string,
  tag: string,
): ResultName | { readonly wrong: string } {
  if (rule.result === 'referrer') return { repository, tag };
  const suffixed = `${tag}${tagSuffix(rule)}`;
  if (suffixed.length > MAX_TAG)
    return { wrong: `the tag ${suffixed} would be longer than ${MAX_TAG} characters` };
  const name = { repository: resultRepository(rule, repository), tag: suffixed };
  if (name.repository === repository && name.tag === tag)
    return { wrong: 'the result would replace its source' };
  return name;
}
