import { askInTurn } from '@sepia/base/async/ask-many';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { ignoreFailure, logFailure, readElsewhere, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { type Link, type RecordStore, tagKey } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { QUOTA_COUNT_MS } from '../deadlines/members.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import {
  QuotaHolds,
  type QuotaLimits,
  type QuotaRules,
  type QuotaUsage,
  quotaOf,
  quotaRules,
  type Wanted,
} from './core/quota.ts';

/** Whether what a push wants fits, by the owner that counts. */
export interface QuotaAnswer {
  /** The limit that has no room for it; undefined if it fits and is held. */
  readonly over?: keyof QuotaLimits;
  /** What the repository has, without what pushes under way hold. */
  readonly usage: QuotaUsage;
}

const MAX_COUNTS = 1_000;
/** Records of one repository that are counted. */
const MAX_RECORDS = 1_000_000;
const NOTHING: QuotaUsage = { bytes: 0, records: 0, tags: 0, largest: 0 };

type Count = { -readonly [K in keyof QuotaUsage]: QuotaUsage[K] };

interface QuotasDeps {
  readonly members: Members;
  readonly records: RecordStore;
  /** Whether the repository has it already. */
  readonly isLinked: (name: BlobName) => Promise<boolean>;
  readonly upstreams: Upstreams;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** A repository of an upstream. */
type Repository = Pick<BlobName, 'upstream' | 'repository'>;

/**
 * What repositories may have. The first healthy owner of the repository's shard counts its links and tags, and what the
 * pushes under way hold, see {@link QuotaHolds}. Where no owner answers nothing is refused: the write itself needs them.
 */
export class Quotas {
  readonly #deps: QuotasDeps;
  readonly #rules = new Map<string, QuotaRules>();
  readonly #counts = new LatestMap<string, { usage: Promise<Count>; untilMs: number }>(MAX_COUNTS);
  readonly #holds = new LatestMap<string, QuotaHolds>(MAX_COUNTS);

  constructor(deps: QuotasDeps) {
    this.#deps = deps;
    deps.records.onRecord((space, key, before, after) => {
      if (space === 'l1') this.#linkChanged(key.split('\0'), linkIn(before), linkIn(after));
      if (space === 'r1') this.#tagChanged(key.split('\0'), hasTag(before), hasTag(after));
    });
    deps.records.onForeign((key) => {
      if (key === undefined) this.#counts.clear();
      else
        void this.#foreignChanged(key).catch((error: unknown) => {
          logFailure(deps.log, error, 'room of a push is held until it expires', {}, 'debug');
        });
    });
  }

  /** What the repository may have; undefined: no limit. */
  limitsOf({ upstream, repository }: Repository): QuotaLimits | undefined {
    return quotaOf(this.#rulesOf(upstream), repository);
  }

  /**
   * Holds room for a push under `id`, in place of what it held. What is linked already counts already.
   * @throws {CodedError} `QUOTA_EXCEEDED`
   */
  async hold(name: Repository, wanted: Wanted): Promise<void> {
    const limits = this.limitsOf(name);
    if (limits === undefined) return;
    const { upstream, repository } = name;
    const answer = await this.#ask(name, wanted);
    if (answer?.over === undefined) return;
    const { digest, sizeBytes, tag } = wanted;
    if (
      digest !== undefined &&
      (await this.#deps.isLinked({ upstream, repository, digest: digest as Digest }))
    )
      return;
    const [has, limit] = [answer.usage[answer.over], limits[answer.over]];
    const detail = { repository, limit: answer.over, used: has, quota: limit, sizeBytes, tag };
    const more = answer.over === 'bytes' ? `${sizeBytes} more do not fit` : 'one more does not fit';
    throw new CodedError('QUOTA_EXCEEDED', {
      message: `${repository} has ${has} of ${limit} ${answer.over}; ${more} beside the pushes under way`,
      detail,
    });
  }

  /** As {@link hold} for what is known at once. @throws {CodedError} `QUOTA_EXCEEDED` if `sizeBytes` more do not fit */
  async check(name: BlobName, sizeBytes: number): Promise<void> {
    await this.hold(name, { id: name.digest, digest: name.digest, sizeBytes });
  }

  /** A push is over: what it held and did not bring is free. */
  release(name: Repository, id: string): void {
    if (this.limitsOf(name) === undefined) return;
    void this.#ask(name, { id }).catch((error: unknown) => {
      logFailure(this.#deps.log, error, 'room of a push is held until it expires', { id }, 'debug');
    });
  }

  /** {@link hold} by this origin's own count, for other members; without bytes or tag the hold is released. */
  async own({ upstream, repository }: Repository, wanted: Wanted): Promise<QuotaAnswer> {
    const key = shardKey(upstream, repository);
    let holds = this.#holds.get(key);
    const limits = this.limitsOf({ upstream, repository });
    if (limits === undefined) return { usage: NOTHING };
    if (wanted.sizeBytes === undefined && wanted.tag === undefined) {
      holds?.release(wanted.id);
      return { usage: NOTHING };
    }
    if (wanted.tag !== undefined && (await this.#hasTag(upstream, repository, wanted.tag)))
      return { usage: NOTHING };
    const usage = await this.#usage(upstream, repository, limits);
    holds = this.#holds.get(key) ?? new QuotaHolds();
    this.#holds.set(key, holds);
    const over = holds.take(wanted, usage, limits, this.#deps.nowMs());
    return { usage: { ...usage }, ...(over === undefined ? {} : { over }) };
  }

  async #hasTag(upstream: string, repository: string, tag: string): Promise<boolean> {
    return hasTag(await this.#deps.records.registers.state(tagKey(upstream, repository, tag)));
  }

  #usage(upstream: string, repository: string, limits: QuotaLimits): Promise<Count> {
    const key = shardKey(upstream, repository);
    const known = this.#counts.get(key);
    if (known !== undefined && known.untilMs > this.#deps.nowMs()) return known.usage;
    const usage = this.#count(upstream, repository, limits);
    this.#counts.set(key, { usage, untilMs: this.#deps.nowMs() + QUOTA_COUNT_MS });
    readElsewhere(usage, () => this.#counts.delete(key));
    return usage;
  }

  /** A link was stored or taken away here. `key`: upstream, repository, digest. */
  #linkChanged(
    [upstream = '', repository = '', digest = '']: readonly string[],
    before?: Link,
    after?: Link,
  ): void {
    const key = shardKey(upstream, repository);
    if (after !== undefined) this.#holds.get(key)?.arrived({ digest });
    void this.#counts.get(key)?.usage.then((count) => {
      count.bytes += (after?.sizeBytes ?? 0) - (before?.sizeBytes ?? 0);
      count.largest = Math.max(count.largest, after?.sizeBytes ?? 0);
      count.records += Number(after !== undefined) - Number(before !== undefined);
    }, ignoreFailure);
  }

  /** A register changed here. `key` of a tag: `tag`, upstream/repository, tag. */
  #tagChanged([kind, place = '', tag = '']: readonly string[], before: boolean, after: boolean): void {
    if (kind !== 'tag' || before === after) return;
    const slash = place.indexOf('/');
    const key = shardKey(place.slice(0, slash), place.slice(slash + 1));
    if (after) this.#holds.get(key)?.arrived({ tag });
    void this.#counts.get(key)?.usage.then((count) => {
      count.tags += Number(after) - Number(before);
    }, ignoreFailure);
  }

  /** Another origin wrote this key of a shared table: it is counted anew, and no push waits for it any more. */
  async #foreignChanged(text: string): Promise<void> {
    const [space, ...key] = text.split('\0');
    const { registers, linkSet } = this.#deps.records;
    if (space === 'l1') {
      const [upstream = '', repository = '', digest = ''] = key;
      const shard = shardKey(upstream, repository);
      this.#counts.delete(shard);
      const holds = this.#holds.get(shard);
      if (holds !== undefined && (await linkSet.has(key))) holds.arrived({ digest });
    } else if (space === 'r1' && key[0] === 'tag') {
      const [, place = '', tag = ''] = key;
      const slash = place.indexOf('/');
      const shard = shardKey(place.slice(0, slash), place.slice(slash + 1));
      this.#counts.delete(shard);
      const holds = this.#holds.get(shard);
      if (holds !== undefined && hasTag(await registers.state(key.join('\0')))) holds.arrived({ tag });
    }
  }

  #rulesOf(upstream: string): QuotaRules {
    let rules = this.#rules.get(upstream);
    if (rules === undefined) {
      rules = quotaRules(this.#deps.upstreams.get(upstream).quotas);
      this.#rules.set(upstream, rules);
    }
    return rules;
  }

  async #ask(name: Repository, wanted: Wanted): Promise<QuotaAnswer | undefined> {
    const { members, log } = this.#deps;
    const { upstream, repository } = name;
    const owners = members.order(members.placement(shardKey(upstream, repository)).owners);
    const call = { ...to(ORIGIN_RECORDS.quotaHold, { upstream, repository }), json: wanted };
    const ask = async (id: string): Promise<QuotaAnswer> =>
      id === members.selfId ? await this.own(name, wanted) : await members.json<QuotaAnswer>(id, call);
    try {
      return await askInTurn(owners, ask);
    } catch (error) {
      throwIfBug(error);
      const facts = { err: error, upstream, repository };
      log.warn(facts, 'no owner tells what the repository holds; its quota is not checked');
      return undefined;
    }
  }

  async #count(upstream: string, repository: string, limits: QuotaLimits): Promise<Count> {
    const count = { ...NOTHING } as Count;
    const { linkSet, registers } = this.#deps.records;
    for await (const { value } of linkSet.list([upstream, repository], { limit: MAX_RECORDS })) {
      count.bytes += value.sizeBytes ?? 0;
      count.largest = Math.max(count.largest, value.sizeBytes ?? 0);
      count.records += 1;
    }
    if (limits.tags === undefined) return count;
    let left = MAX_RECORDS;
    for await (const key of registers.keys(tagKey(upstream, repository, ''))) {
      count.tags += Number(hasTag(await registers.state(key)));
      if (--left <= 0) break;
    }
    return count;
  }
}

/** What a stored link says; nothing of a tombstone. */
function linkIn(stored: unknown): Link | undefined {
  return (stored as { readonly value?: Link } | undefined)?.value;
}

/** True if a tag's register has a digest. */
function hasTag(stored: unknown): boolean {
  const kept = stored as
    | { readonly value?: { readonly value?: { readonly digest?: unknown } | null } }
    | undefined;
  return typeof kept?.value?.value?.digest === 'string';
}
