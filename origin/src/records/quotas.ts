import { CodedError } from '@sepia/base/errors';
import { ignoreFailure, readElsewhere, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import type { Link, RecordStore } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { type QuotaRules, quotaOf, quotaRules } from './core/quota.ts';

/** What a repository holds, by its links. */
export interface RepositoryUsage {
  readonly bytes: number;
  readonly blobs: number;
}

/** A count is used again for this long, in ms; links that come meanwhile are added to it. */
const COUNT_MS = 10_000;
const MAX_COUNTS = 1_000;
/** Links of one repository that are counted. */
const MAX_LINKS = 1_000_000;

interface Count {
  bytes: number;
  blobs: number;
}

interface QuotasDeps {
  readonly members: Members;
  readonly records: RecordStore;
  /** Whether the repository has it already. */
  readonly isLinked: (name: BlobName) => Promise<boolean>;
  readonly upstreams: Upstreams;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Bytes that repositories may have. The first healthy owner of the repository's shard counts its links; pushes that
 * run at once may go over by what each of them brings. Where no owner answers nothing is refused: the write itself
 * needs them.
 */
export class Quotas {
  readonly #deps: QuotasDeps;
  readonly #rules = new Map<string, QuotaRules>();
  readonly #counts = new LatestMap<string, { usage: Promise<Count>; untilMs: number }>(MAX_COUNTS);

  constructor(deps: QuotasDeps) {
    this.#deps = deps;
    deps.records.onRecord((space, key, before, after) => {
      if (space === 'l1') this.#changed(key.split('\0'), linkIn(before), linkIn(after));
    });
  }

  /** What is linked already counts already. @throws {CodedError} `QUOTA_EXCEEDED` if `sizeBytes` more do not fit */
  async check(name: BlobName, sizeBytes: number): Promise<void> {
    const { upstream, repository } = name;
    const limitBytes = quotaOf(this.#rulesOf(upstream), repository);
    if (limitBytes === undefined) return;
    const usage = await this.#ask(upstream, repository);
    if (usage === undefined || usage.bytes + sizeBytes <= limitBytes) return;
    if (await this.#deps.isLinked(name)) return;
    throw new CodedError('QUOTA_EXCEEDED', {
      message: `${repository} has ${usage.bytes} of ${limitBytes} bytes; ${sizeBytes} more do not fit`,
      detail: { repository, usedBytes: usage.bytes, quotaBytes: limitBytes, sizeBytes },
    });
  }

  /** Counted from this origin's own links, for other members. */
  own(upstream: string, repository: string): Promise<RepositoryUsage> {
    const key = shardKey(upstream, repository);
    const known = this.#counts.get(key);
    if (known !== undefined && known.untilMs > this.#deps.nowMs()) return known.usage;
    const usage = this.#count(upstream, repository);
    this.#counts.set(key, { usage, untilMs: this.#deps.nowMs() + COUNT_MS });
    readElsewhere(usage, () => this.#counts.delete(key));
    return usage;
  }

  /** A link was stored or taken away here. `key`: upstream, repository, digest. */
  #changed([upstream = '', repository = '']: readonly string[], before?: Link, after?: Link): void {
    void this.#counts.get(shardKey(upstream, repository))?.usage.then((count) => {
      count.bytes += (after?.sizeBytes ?? 0) - (before?.sizeBytes ?? 0);
      count.blobs += Number(after !== undefined) - Number(before !== undefined);
    }, ignoreFailure);
  }

  #rulesOf(upstream: string): QuotaRules {
    let rules = this.#rules.get(upstream);
    if (rules === undefined) {
      rules = quotaRules(this.#deps.upstreams.get(upstream).quotas);
      this.#rules.set(upstream, rules);
    }
    return rules;
  }

  async #ask(upstream: string, repository: string): Promise<RepositoryUsage | undefined> {
    const { members, log } = this.#deps;
    for (const id of members.order(members.placement(shardKey(upstream, repository)).owners)) {
      try {
        if (id === members.selfId) return await this.own(upstream, repository);
        return await members.json<RepositoryUsage>(id, to(ORIGIN_RECORDS.usage, { upstream, repository }));
      } catch (error) {
        throwIfBug(error);
        log.debug({ err: error, id, repository }, 'usage not known');
      }
    }
    log.warn({ upstream, repository }, 'no owner tells what the repository holds; its quota is not checked');
    return undefined;
  }

  async #count(upstream: string, repository: string): Promise<Count> {
    let bytes = 0;
    let blobs = 0;
    for await (const { value } of this.#deps.records.linkSet.list([upstream, repository], {
      limit: MAX_LINKS,
    })) {
      bytes += value.sizeBytes ?? 0;
      blobs += 1;
    }
    return { bytes, blobs };
  }
}

/** What a stored link says; nothing of a tombstone. */
function linkIn(stored: unknown): Link | undefined {
  return (stored as { readonly value?: Link } | undefined)?.value;
}
