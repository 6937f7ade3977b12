import { SingleFlight } from '@sepia/base/async/single-flight';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { optional } from '@sepia/base/json/plain-object';
import { forgetsAtRest } from '@sepia/base/memory/at-rest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { linkKey } from '@sepia/base/names/blob-name';
import type { Revocation } from '@sepia/cluster/api/revocation';
import { LINK_BELIEF_MS, LinkLedger } from '@sepia/cluster/core/link-ledger';
import type { ToldClocks } from '@sepia/records/core/set-protocol';
import type { Link } from '@sepia/records/store/record-store';
import { LINK_TOUCH_MS } from '../deadlines/own.ts';
import { CONFIRM_MS } from '../deadlines/upstreams.ts';
import { upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { QuorumSet } from './quorum-set.ts';
import type { Change, RidingWrite } from './riding-write.ts';

/** A link as members tell it to each other. */
export interface LinkEntry {
  readonly upstream: string;
  readonly repository: string;
  readonly digest: Digest;
  readonly sizeBytes?: number | undefined;
  readonly mediaType?: string | undefined;
  /** A push or mount made it (mode write-back): the repository has the bytes by that, whatever the upstream says. */
  readonly pushed?: boolean | undefined;
  /** Clock of its last write, where it was read. */
  readonly atMs?: number | undefined;
}

type LinkFacts = Pick<LinkEntry, 'digest' | 'sizeBytes' | 'mediaType' | 'pushed'>;

const MAX_CACHED = 50_000;
/** Links that go with one copy: they are in a header. */
const MAX_RIDING = 16;

interface LinksDeps {
  readonly set: QuorumSet<Link>;
  readonly upstreams: Upstreams;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
  /** The upstream said that the repository has it. */
  readonly onConfirmed?: (name: BlobName) => void;
}

/**
 * Links (upstream, repository) → digest on the owners of the repository's shard, see {@link QuorumSet}. In
 * pull-through, a link that is missing is confirmed once at the upstream.
 */
export class Links {
  readonly #deps: LinksDeps;
  /** `written`: by a quorum write of this process; one that was only found may be on too few owners. */
  readonly #ledger: LinkLedger<{ readonly entry: LinkEntry; readonly written: boolean }>;
  readonly #confirming = new SingleFlight<string, LinkEntry>();

  constructor(deps: LinksDeps) {
    this.#deps = deps;
    this.#ledger = new LinkLedger({
      beliefMs: (upstream) =>
        deps.upstreams.takesDeletes(upstream) ? LINK_BELIEF_MS.member : LINK_BELIEF_MS.lasting,
      limit: MAX_CACHED,
      isForgetful: true,
    });
    forgetsAtRest(this.#ledger);
  }

  /** The link as this origin's own records have it, for people who look and for guesses. */
  async own(name: BlobName): Promise<Link | undefined> {
    try {
      return (await this.#deps.set.here.own(name, [name.digest])).record?.value;
    } catch (error) {
      if (isCoded(error, 'RECORDS_PENDING')) return undefined;
      throw error;
    }
  }

  /** Links of one repository that owners may get with a copy, before they are written; undefined if none need be, or too many. */
  ride(entries: readonly LinkEntry[]): RidingWrite<Link> | undefined {
    const fresh = entries.filter((entry) => !this.#isWritten(entry));
    const [first] = fresh;
    if (first === undefined || fresh.length > MAX_RIDING) return undefined;
    return this.#deps.set.ride(first, fresh.map(changeOf));
  }

  /** Takes links that came with a copy, under their clock; undefined where this origin's records do not count. */
  async take(
    shard: { readonly upstream: string; readonly repository: string },
    atMs: number,
    links: readonly LinkFacts[],
  ): Promise<ToldClocks | undefined> {
    // What a later version says of a link is kept.
    const records = links.map(({ digest, ...value }) => ({ key: [digest], value: value as Link, atMs }));
    try {
      return await this.#deps.set.here.putOwn(shard, records);
    } catch (error) {
      if (isCoded(error, 'RECORDS_PENDING')) return undefined;
      throw error;
    }
  }

  /**
   * Writes links of one repository to W of its owners; the rest follows behind. `riding`: what {@link ride} gave
   * for them. @throws `QUORUM_LOST`, `CONFLICT`
   */
  async write(entries: readonly LinkEntry[], riding?: RidingWrite<Link>): Promise<void> {
    const fresh = entries.filter((entry) => !this.#isWritten(entry));
    const [first] = fresh;
    if (first === undefined) return;
    const { upstreams, set, nowMs } = this.#deps;
    const lookUp = this.#ledger.begin(nowMs());
    await set.write(first, fresh.map(changeOf), riding);
    const arePushes =
      upstreams.takesDeletes(first.upstream) && upstreams.client(first.upstream) !== undefined;
    for (const entry of fresh) {
      // That a push made it stays on record, whatever is written after that.
      if (arePushes && entry.pushed !== true) this.#ledger.deny(entry);
      else this.#ledger.note(entry, { entry, written: true }, lookUp);
    }
  }

  /** Clock to take before a registry is asked for what {@link writeSeen} then links. */
  seenMs(): number {
    return this.#deps.dateMs();
  }

  /**
   * As {@link write}, of links that a registry showed, or that were found here, after the clock `seenMs` was taken: what was
   * deleted since stays so. @throws `QUORUM_LOST`, `CONFLICT`
   */
  async writeSeen(entries: readonly LinkEntry[], seenMs: number): Promise<void> {
    const [first] = entries;
    if (first === undefined || !this.#deps.upstreams.takesDeletes(first.upstream))
      return await this.write(entries);
    await this.#deps.set.writeSeen(first, entries.map(changeOf), seenMs);
  }

  /**
   * Leaves a tombstone of what stood at the clock `atMs`. Others must be told (`Invalidation`).
   * @throws `QUORUM_LOST`, `CONFLICT` where it was linked since
   */
  async deleteAt({ upstream, repository, digest }: BlobName, atMs: number): Promise<void> {
    await this.#deps.set.writeAt({ upstream, repository }, [{ key: [digest] }], atMs);
  }

  /** Leaves tombstones of one repository on W owners. Others must be told (`Invalidation`). @throws `QUORUM_LOST`, `CONFLICT` */
  async delete(
    shard: { readonly upstream: string; readonly repository: string },
    digests: readonly Digest[],
  ): Promise<void> {
    await this.#deps.set.write(
      shard,
      digests.map((digest) => ({ key: [digest] })),
    );
  }

  /** Takes a link away as it was read from its owners; what was written since stays. @throws `QUORUM_LOST`, `CONFLICT` */
  async bury(link: LinkEntry): Promise<void> {
    const { set } = this.#deps;
    const { agreedMs } = await set.readAbove(link, [link.digest]);
    // A floor of the time when the upstream had mode none takes no tombstone at the link's own clock.
    const atMs = Math.max(link.atMs!, Math.floor(agreedMs) + 1);
    await set.writeSeen(link, [{ key: [link.digest] }], atMs);
  }

  /** The link, or undefined if enough owners say that there is none. `fresh`: asks them in any case. @throws `QUORUM_LOST` */
  async find(name: BlobName, options: { readonly fresh?: boolean } = {}): Promise<LinkEntry | undefined> {
    const known = options.fresh === true ? undefined : this.#ledger.get(name, this.#deps.nowMs());
    if (known !== undefined) return known.entry;
    const found = await this.#read(name);
    return found === 'deleted' ? undefined : found;
  }

  /** True if a delete took the link, of a repository that another registry may still have. @throws `QUORUM_LOST` */
  async isDeleted(name: BlobName): Promise<boolean> {
    if (!this.#deps.upstreams.takesDeletes(name.upstream)) return false;
    return (await this.#read(name)) === 'deleted';
  }

  /** As {@link isDeleted}, also if no tombstone tells of it any more, of a link that was there at `atMs`. @throws `QUORUM_LOST` */
  async isGone(name: BlobName, atMs: number): Promise<boolean> {
    if (!this.#deps.upstreams.takesDeletes(name.upstream)) return false;
    const { record, agreedMs } = await this.#deps.set.readAbove(name, [name.digest]);
    return record === undefined ? atMs <= agreedMs : record.value === undefined;
  }

  async #read(name: BlobName): Promise<LinkEntry | 'deleted' | undefined> {
    const lookUp = this.#ledger.begin(this.#deps.nowMs());
    const lenient = !this.#deps.upstreams.takesDeletes(name.upstream);
    const record = await this.#deps.set.read(name, [name.digest], { lenient });
    if (record === undefined) return undefined;
    if (record.value === undefined) return 'deleted';
    const { upstream, repository, digest } = name;
    const found: LinkEntry = { upstream, repository, digest, ...record.value, atMs: record.atMs };
    this.#ledger.note(found, { entry: found, written: false }, lookUp);
    return found;
  }

  /** As a fresh {@link find} of many, in parts of their order: undefined where there is no link. @throws `QUORUM_LOST` */
  async *findMany(
    shard: { readonly upstream: string; readonly repository: string },
    digests: readonly Digest[],
  ): AsyncGenerator<(Link | undefined)[], void, void> {
    const keys = digests.map((digest) => [digest]);
    for await (const records of this.#deps.set.readMany(shard, keys)) yield records.map((one) => one?.value);
  }

  /**
   * A push is told that the link is there: one that was not written for an hour, or `now`, is written again, so that no
   * garbage collection takes it before the manifest comes. @throws `QUORUM_LOST`, `CONFLICT`
   */
  async touch(name: BlobName, now: boolean): Promise<void> {
    if (!this.#deps.upstreams.takesDeletes(name.upstream)) return;
    const { dateMs } = this.#deps;
    const seenMs = this.seenMs();
    const found = await this.find(name, { fresh: now });
    if (found === undefined) return;
    if (!now && dateMs() - (found.atMs ?? dateMs()) < LINK_TOUCH_MS) return;
    // What is only believed may have been deleted before.
    const standing = now ? found : await this.find(name, { fresh: true });
    if (standing !== undefined) await this.writeSeen([standing], seenMs);
  }

  /** Forgets links that are no more. */
  revoke(revoked: readonly Revocation[]): void {
    this.#ledger.revoke(revoked);
  }

  /**
   * The link; where it is missing and not deleted, an upstream that is read from is asked once and the link written.
   * @throws `BLOB_UNKNOWN`, `QUORUM_LOST`, `BACKEND_DOWN` and what the upstream says
   */
  async require(name: BlobName, signal: AbortSignal): Promise<LinkEntry> {
    const client = this.#deps.upstreams.client(name.upstream);
    const takesDeletes = this.#deps.upstreams.takesDeletes(name.upstream);
    const seenMs = this.seenMs();
    let lost: unknown;
    try {
      const found = await this.find(name);
      if (found !== undefined) return found;
    } catch (error) {
      // A registry may still have what was deleted here.
      if (client === undefined || takesDeletes || !isCoded(error, 'QUORUM_LOST')) throw error;
      lost = error;
    }
    if (client === undefined || (takesDeletes && (await this.isDeleted(name))))
      throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest, repository: name.repository } });
    const confirm = async (unwanted: AbortSignal): Promise<LinkEntry> => {
      const lookUp = this.#ledger.begin(this.#deps.nowMs());
      const { sizeBytes } = await client.headBlob(
        { repository: name.repository, digest: name.digest, unwanted },
        AbortSignal.timeout(CONFIRM_MS),
      );
      this.#deps.onConfirmed?.(name);
      const entry: LinkEntry = { ...name, sizeBytes };
      await this.writeSeen([entry], seenMs).catch((error: unknown) => {
        if (!isCoded(error, 'QUORUM_LOST') && !isCoded(error, 'CONFLICT')) throw error;
        this.#ledger.note(entry, { entry, written: false }, lookUp);
      });
      return entry;
    };
    try {
      return await this.#confirming.share(linkKey(name), confirm, signal);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      // Our own deadline is the registry's silence too: each other origin would wait as long for it once more.
      const failure = upstreamError(error, name.upstream);
      throw failure.code === 'BACKEND_DOWN' ? (lost ?? failure) : failure;
    }
  }

  /** Where links can be deleted every write is made: its clock is what wins over a tombstone that is not known here. */
  #isWritten(entry: LinkEntry): boolean {
    if (this.#deps.upstreams.takesDeletes(entry.upstream)) return false;
    const found = this.#ledger.get(entry, this.#deps.nowMs());
    if (found?.written !== true) return false;
    const known = found.entry;
    return (
      (entry.sizeBytes ?? known.sizeBytes) === known.sizeBytes &&
      (entry.mediaType ?? known.mediaType) === known.mediaType
    );
  }
}

function changeOf({ digest, sizeBytes, mediaType, pushed }: LinkFacts): Change<Link> & { value: Link } {
  const value = {
    ...optional('sizeBytes', sizeBytes),
    ...optional('mediaType', mediaType),
    ...optional('pushed', pushed),
  };
  return { key: [digest], value };
}
