import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { ParsedManifest } from '@sepia/oci/manifest';
import type { Referrer } from '@sepia/records/store/record-store';
import type { ReferrerEntry } from '@sepia/upstream/referrers/referrer-list';
import { LIST_MS } from '../deadlines/upstreams.ts';
import { isPassing, upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { QuorumSet } from './quorum-set.ts';

/** Records asked of the owners at once, and most descriptors of one answer. */
const PAGE = 500;
/** Further descriptors go to the next page once an answer has this many bytes. */
const PAGE_BYTES = 1024 * 1024;
/** Descriptors of an upstream's list that are read. */
const MAX_UPSTREAM = 10_000;

/** `next`: the digest to go on after. */
export interface ReferrerPage {
  readonly manifests: readonly ReferrerEntry[];
  readonly next?: string;
}

interface ReferrersDeps {
  readonly set: QuorumSet<Referrer>;
  readonly upstreams: Upstreams;
  readonly log: Logger;
}

/** Manifests by the subject that they name: on record, and at the upstream in pull-through. */
export class Referrers {
  readonly #deps: ReferrersDeps;

  constructor(deps: ReferrersDeps) {
    this.#deps = deps;
  }

  /**
   * Notes a manifest under its subject, if it names one. `seenMs`: a clock taken before a registry showed it; what was
   * deleted since stays so. @throws `QUORUM_LOST`, `CONFLICT`
   */
  async note(name: BlobName, sizeBytes: number, parsed: ParsedManifest, seenMs?: number): Promise<void> {
    const { subject, mediaType, artifactType, annotations } = parsed;
    if (subject === undefined) return;
    const value: Referrer = {
      mediaType,
      sizeBytes,
      ...(artifactType === undefined ? {} : { artifactType }),
      ...(annotations === undefined ? {} : { annotations }),
    };
    const changes = [{ key: [subject, name.digest], value }];
    await (seenMs === undefined
      ? this.#deps.set.write(name, changes)
      : this.#deps.set.writeSeen(name, changes, seenMs));
  }

  /** Leaves a tombstone of what stood at the clock `atMs`. @throws `QUORUM_LOST`, `CONFLICT` where it was noted since */
  async deleteAt(name: BlobName, subject: Digest, atMs: number): Promise<void> {
    await this.#deps.set.writeAt(name, [{ key: [subject, name.digest] }], atMs);
  }

  /**
   * What names `subject`, by digest from behind `last`; none is an empty page. In pull-through the upstream's list and
   * what is on record together; what is on record alone where the upstream does not answer and there is something.
   * @throws `QUORUM_LOST`, what the upstream says
   */
  async list(
    subject: { readonly upstream: string; readonly repository: RepositoryName; readonly digest: Digest },
    page: { readonly artifactType?: string | undefined; readonly last?: string | undefined },
  ): Promise<ReferrerPage> {
    const client = this.#deps.upstreams.client(subject.upstream);
    if (client === undefined) return await this.#recorded(subject, page);
    let upstream: readonly ReferrerEntry[] = [];
    let failure: unknown;
    try {
      const query = { repository: subject.repository, digest: subject.digest, limit: MAX_UPSTREAM };
      upstream = await client.listReferrers(query, AbortSignal.timeout(LIST_MS));
    } catch (thrown) {
      failure = upstreamError(thrown, subject.upstream);
      if (!isPassing(failure)) throw failure;
    }
    const known = await this.#recorded(subject, page).catch((error: unknown) => {
      if (failure !== undefined || !isCoded(error, 'QUORUM_LOST')) throw error;
      this.#deps.log.warn({ ...subject }, 'referrers of the upstream alone: too few origins answer');
      return { manifests: [] };
    });
    if (failure !== undefined) {
      if (known.manifests.length === 0) throw failure;
      return known;
    }
    const horizon = 'next' in known ? known.next : undefined;
    const wanted = upstream.filter(
      (one) => matches(one, page) && (horizon === undefined || one.digest <= horizon),
    );
    const merged = new Map([...known.manifests, ...wanted].map((one) => [one.digest, one]));
    return cut(
      [...merged.values()].sort((a, b) => (a.digest < b.digest ? -1 : 1)),
      horizon,
    );
  }

  async #recorded(
    { upstream, repository, digest }: BlobName,
    page: { readonly artifactType?: string | undefined; readonly last?: string | undefined },
  ): Promise<ReferrerPage> {
    const found: ReferrerEntry[] = [];
    let bytes = 0;
    let { last: after } = page;
    for (;;) {
      const { entries, next } = await this.#deps.set.page({ upstream, repository }, [digest], {
        after,
        limit: PAGE,
      });
      for (const { key, value } of entries) {
        if (value === undefined) continue;
        const one = descriptorOf(key[1] as Digest, value);
        if (!matches(one, page)) continue;
        found.push(one);
        bytes += JSON.stringify(one).length;
      }
      if (next === undefined || found.length >= PAGE || bytes >= PAGE_BYTES) return cut(found, next);
      after = next;
    }
  }
}

/** At most {@link PAGE} descriptors and about {@link PAGE_BYTES} (at least one); `behind`: where the list goes on anyway. */
function cut(all: readonly ReferrerEntry[], behind: string | undefined): ReferrerPage {
  let count = 0;
  let bytes = 0;
  while (count < all.length && count < PAGE && bytes < PAGE_BYTES)
    bytes += JSON.stringify(all[count++]).length;
  const manifests = all.slice(0, count);
  const next = count < all.length ? manifests.at(-1)?.digest : behind;
  return next === undefined ? { manifests } : { manifests, next };
}

function matches(
  one: ReferrerEntry,
  page: { readonly artifactType?: string | undefined; readonly last?: string | undefined },
): boolean {
  if (page.artifactType !== undefined && one.artifactType !== page.artifactType) return false;
  return page.last === undefined || one.digest > page.last;
}

function descriptorOf(digest: Digest, { mediaType, sizeBytes, artifactType, annotations }: Referrer) {
  return {
    mediaType,
    digest,
    size: sizeBytes,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations }),
  };
}
