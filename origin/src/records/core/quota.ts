import { LatestMap } from '@sepia/base/latest-map';
import { matcherOf, type NameMatcher } from '@sepia/base/names/pattern';
import type { RepositoryQuota } from '@sepia/cluster/document';
import { QUOTA_HOLD_MS } from '../../deadlines/members.ts';

/** What one repository may have; no limit where a key is not there. */
export interface QuotaLimits {
  readonly bytes?: number;
  readonly records?: number;
  readonly tags?: number;
}

/** What a repository has. */
export interface QuotaUsage {
  readonly bytes: number;
  /** Blobs and manifests. */
  readonly records: number;
  readonly tags: number;
  /** Bytes of its largest blob. */
  readonly largest: number;
}

/** Quotas of one upstream, ready to be looked up. */
export type QuotaRules = readonly { readonly matches: NameMatcher; readonly limits: QuotaLimits }[];

export function quotaRules(quotas: readonly RepositoryQuota[]): QuotaRules {
  return quotas.map(({ repositories, size, records, tags }) => ({
    matches: matcherOf(repositories),
    limits: {
      ...(size === undefined ? {} : { bytes: size }),
      ...(records === undefined ? {} : { records }),
      ...(tags === undefined ? {} : { tags }),
    },
  }));
}

/** What a repository may have: of the first rule that matches it; undefined where none does. */
export function quotaOf(rules: QuotaRules, repository: string): QuotaLimits | undefined {
  return rules.find((rule) => rule.matches(repository))?.limits;
}

/** What a push wants to bring: so many bytes of a blob, or a tag. */
export interface Wanted {
  /** Name of the push: what it holds is replaced by what it wants now. */
  readonly id: string;
  readonly sizeBytes?: number | undefined;
  /** Once it is known: pushes of the same content hold its room once. */
  readonly digest?: string | undefined;
  readonly tag?: string | undefined;
}

interface Hold extends Wanted {
  readonly untilMs: number;
}

/** Holds of one repository; the oldest goes first. */
const MAX_HOLDS = 20_000;

/**
 * What pushes that are under way will bring to one repository. A hold is taken before its bytes come, so that pushes
 * that run at once never go over the quota together, and ends when what it stands for is on record.
 */
export class QuotaHolds {
  readonly #holds = new LatestMap<string, Hold>(MAX_HOLDS);

  /** Takes or renews a hold; returns the limit that has no room for it, which changes nothing. */
  take(wanted: Wanted, usage: QuotaUsage, limits: QuotaLimits, nowMs: number): keyof QuotaLimits | undefined {
    for (const [id, hold] of this.#holds) if (hold.untilMs <= nowMs) this.#holds.delete(id);
    const others = [...this.#holds.values()].filter((one) => one.id !== wanted.id);
    const held = heldBy([...others, wanted]);
    const isOver = (limit: keyof QuotaLimits, has: number = usage[limit]): boolean =>
      has + held[limit] > (limits[limit] ?? Number.POSITIVE_INFINITY);
    if (wanted.sizeBytes !== undefined) {
      // Content that is there already may come again: of what it is nothing is known before its end.
      const mayBeThere = wanted.digest === undefined && wanted.sizeBytes <= usage.largest;
      if (isOver('bytes', mayBeThere ? 0 : usage.bytes)) return 'bytes';
      if (isOver('records', mayBeThere ? 0 : usage.records)) return 'records';
    }
    if (wanted.tag !== undefined && isOver('tags')) return 'tags';
    this.#holds.set(wanted.id, { ...wanted, untilMs: nowMs + QUOTA_HOLD_MS });
    return undefined;
  }

  release(id: string): void {
    this.#holds.delete(id);
  }

  /** A digest or tag is on record: it counts as such from now on. */
  arrived(what: { readonly digest?: string; readonly tag?: string }): void {
    for (const [id, { digest, tag }] of this.#holds) {
      const isSame =
        (digest !== undefined && digest === what.digest) || (tag !== undefined && tag === what.tag);
      if (isSame) this.#holds.delete(id);
    }
  }
}

function heldBy(holds: readonly Wanted[]): Record<keyof QuotaLimits, number> {
  const sizes = new Map<string, number>();
  const tags = new Set<string>();
  for (const { id, sizeBytes, digest, tag } of holds) {
    const key = digest ?? `push ${id}`;
    if (sizeBytes !== undefined) sizes.set(key, Math.max(sizes.get(key) ?? 0, sizeBytes));
    if (tag !== undefined) tags.add(tag);
  }
  const bytes = [...sizes.values()].reduce((sum, one) => sum + one, 0);
  return { bytes, records: sizes.size, tags: tags.size };
}
