import { backoffMs } from '@sepia/base/async/backoff';
import { type Digest, isDigest } from '@sepia/base/digest';
import { matcherOf, type NameMatcher } from '@sepia/base/names/pattern';
import { isRepositoryName, type RepositoryName } from '@sepia/base/names/repository';
import type { RetryRules } from '@sepia/records/jobs/core/job-lane';
import { AFTER_NONE_MS } from '../../deadlines/upstreams.ts';

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

/** The digest whose referrers a tag lists, where its registry does not list them: `sha256-<hex>` alone. */
export function listedBy(tag: string): Digest | undefined {
  const digest = tag.replace('-', ':');
  return isDigest(digest) ? digest : undefined;
}

/** Tells which repositories and tags one replication rule copies, and what they are called at its target. */
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
  return tries >= rules.tries ? 'dead' : Math.max(retryAfterMs ?? 0, waitOf(tries, rules, chance));
}

/** The wait after so many failures in a row, in ms: doubled each time, half of it chance. */
export function waitOf(failures: number, { firstMs, maxMs }: RetryRules, chance: number): number {
  const waitMs =
    firstMs > 0 ? backoffMs(failures, firstMs, maxMs) : backoffMs(failures - 1, AFTER_NONE_MS, maxMs);
  return Math.round(waitMs * (0.5 + chance / 2));
}

/** What no later try can mend. */
const PERMANENT: ReadonlySet<string> = new Set([
  'METHOD_UNSUPPORTED',
  'MANIFEST_SYNTAX',
  'MANIFEST_TOO_LARGE',
  'WRITE_BACK_CONFLICT',
]);
/** Failures that pass by themselves, whatever was to be copied: the target's, then this cluster's own. */
const SILENT: ReadonlySet<string> = new Set(['BACKEND_DOWN', 'UPSTREAM_LIMITED']);
const PASSING: ReadonlySet<string> = new Set([
  ...SILENT,
  'QUORUM_LOST',
  'CONFLICT',
  'RECORDS_PENDING',
  'TIMEOUT',
  'PEER_HTTP',
  'NO_PEERS',
  'DRAINING',
  'OVERLOADED',
  'CONTENT_SWEPT',
  'MEMBER_BUSY',
  'DISK_FULL',
  'DISK_FAILED',
  'DISK_CORRUPT',
  'STALE_ATTEMPT',
  'RING_CHANGING',
  'EPOCH_OUTDATED',
  'NOT_IN_RING',
]);

/** True for the code of a failure that passes by itself, be it the target's or this cluster's own. */
export function passes(code: string): boolean {
  return PASSING.has(code);
}

/** A failed run of a job. */
export interface JobFailure {
  readonly code: string;
  /** Failures before that count. */
  readonly tries: number;
  /** How often it failed in a row in this process, this one too. */
  readonly strikes: number;
  readonly retryAfterMs: number | undefined;
  /** 0 ≤ chance < 1. */
  readonly chance: number;
}

/** What follows on a failure. */
export interface FailurePlan {
  readonly next: number | 'dead';
  /** Failures that count now. */
  readonly tries: number;
  /** The target is silent: other jobs of it need not try before. */
  readonly pauses: boolean;
}

/**
 * What follows on a failure. `isOwed`: the job carries what was acknowledged, so that no silence, however long, gives it
 * up; only refusals count as tries then, and what no try can mend is dead at once.
 */
export function failurePlan(failure: JobFailure, rules: RetryRules, isOwed: boolean): FailurePlan {
  const { code, tries, strikes, retryAfterMs, chance } = failure;
  if (PERMANENT.has(code) || (isOwed && code === 'UPSTREAM_POLICY'))
    return { next: 'dead', tries: tries + 1, pauses: false };
  if (isOwed && PASSING.has(code)) {
    const forEver = { ...rules, tries: Number.POSITIVE_INFINITY };
    return { next: nextTry(strikes, forEver, chance, retryAfterMs), tries, pauses: SILENT.has(code) };
  }
  return {
    next: nextTry(tries + 1, rules, chance, retryAfterMs),
    tries: tries + 1,
    pauses: retryAfterMs !== undefined,
  };
}
