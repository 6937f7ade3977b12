import { type ConversionRule, resultRepository, tagSuffix } from '@sepia/cluster/conversion-rule';

/** Where a result goes: repository and tag at the registry of its source; the tag of a referrer is its source's. */
export interface ResultName {
  readonly repository: string;
  readonly tag: string;
}

const MAX_TAG = 128;

/** The result's name, or why there can be none. */
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

/** Shares of the layers of one image, as a queue keeps them: bounded, in the order in which they began. */
export class ProgressBook {
  readonly #layers = new Map<string, { phase: 'pull' | 'convert' | 'push' | 'done'; share: number }>();

  note(digest: string, phase: 'pull' | 'convert' | 'push' | 'done', share: number): void {
    const rounded = Math.round(Math.min(1, Math.max(0, share)) * 100) / 100;
    this.#layers.set(digest, { phase, share: Number.isFinite(rounded) ? rounded : 0 });
  }

  /** At most `limit` layers: those that are not done first. */
  view(limit = 100): readonly {
    readonly digest: string;
    readonly phase: 'pull' | 'convert' | 'push' | 'done';
    readonly share: number;
  }[] {
    const all = [...this.#layers].map(([digest, { phase, share }]) => ({ digest, phase, share }));
    return [...all.filter((one) => one.phase !== 'done'), ...all.filter((one) => one.phase === 'done')].slice(
      0,
      limit,
    );
  }
}
