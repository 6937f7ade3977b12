import { backoffMs } from '@sepia/base/async/backoff';
import { matcherOf, type NameMatcher } from '@sepia/base/names/pattern';
import { isRepositoryName, type RepositoryName } from '@sepia/base/names/repository';

/** The part of a rule of the cluster document that decides what is copied and how it is called there. */
interface RuleNames {
  readonly name: string;
  readonly from: string;
  readonly repositories: readonly string[];
  readonly tags?: readonly string[] | undefined;
  readonly rewrite: {
    readonly 'strip-prefix'?: string | undefined;
    readonly 'add-prefix'?: string | undefined;
  };
}

/** Tags under which clients without the referrers API keep what belongs to a digest: `sha256-<hex>[.sig]`. */
const REFERRER_TAG = /^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(?:\..{1,20})?$/;

/** The digest that a referrer tag belongs to, or undefined for other tags. */
export function subjectOfTag(tag: string): string | undefined {
  return REFERRER_TAG.exec(tag)?.[1]?.replace('-', ':');
}

/** What one rule copies. */
export class RuleMatcher {
  readonly #rule: RuleNames;
  readonly #repository: NameMatcher;
  readonly #tag: NameMatcher;

  constructor(rule: RuleNames) {
    this.#rule = rule;
    this.#repository = matcherOf(rule.repositories);
    this.#tag = rule.tags === undefined ? () => true : matcherOf(rule.tags);
  }

  matchesRepository(upstream: string, repository: string): boolean {
    return (
      upstream === this.#rule.from && this.#repository(repository) && this.target(repository) !== undefined
    );
  }

  /** True for a tag that the rule names, and for one that belongs to a digest: whether that is there decides later. */
  matchesTag(upstream: string, repository: string, tag: string): boolean {
    return (
      this.matchesRepository(upstream, repository) && (this.#tag(tag) || subjectOfTag(tag) !== undefined)
    );
  }

  /** True if the tag was not named by the rule, only by what it belongs to. */
  onlyWithSubject(tag: string): boolean {
    return !this.#tag(tag) && subjectOfTag(tag) !== undefined;
  }

  /** Name of a repository at the target; undefined if the rewrite leaves none. */
  target(repository: string): RepositoryName | undefined {
    const { 'strip-prefix': strip, 'add-prefix': add } = this.#rule.rewrite;
    let name = repository;
    if (strip !== undefined) {
      if (!name.startsWith(`${strip}/`)) return undefined;
      name = name.slice(strip.length + 1);
    }
    if (add !== undefined) name = `${add}/${name}`;
    return isRepositoryName(name) ? name : undefined;
  }
}

/** How failures are answered, in ms. */
export interface RetryRules {
  readonly firstMs: number;
  readonly maxMs: number;
  readonly tries: number;
}

/**
 * When a job that failed `tries` times is tried again, or `dead`. The wait doubles, half of it is chance (0 ≤ chance <
 * 1); what the target asked for (`Retry-After`) is the least.
 */
export function nextTry(
  tries: number,
  rules: RetryRules,
  chance: number,
  retryAfterMs: number | undefined,
): number | 'dead' {
  if (tries >= rules.tries) return 'dead';
  const waitMs = backoffMs(tries, rules.firstMs, rules.maxMs);
  return Math.max(retryAfterMs ?? 0, Math.round(waitMs * (0.5 + chance / 2)));
}

/** Bytes per second, smoothed over a second: says how long what is sent must wait. Pure: time is passed in. */
export class ByteBudget {
  readonly #bytesPerSec: number;
  #freeAtMs = 0;

  constructor(bytesPerSec: number) {
    this.#bytesPerSec = bytesPerSec;
  }

  /** Takes `bytes`; returns the ms to wait before they are sent. */
  take(bytes: number, nowMs: number): number {
    const startMs = Math.max(this.#freeAtMs, nowMs - 1_000);
    this.#freeAtMs = startMs + (bytes * 1_000) / this.#bytesPerSec;
    return Math.max(0, Math.round(startMs - nowMs));
  }
}
