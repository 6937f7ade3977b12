import { shardKey } from '@sepia/shared/cluster/cluster';
import type { Digest } from '@sepia/shared/digest';
import { CodedError, isCoded } from '@sepia/shared/errors';
import type { Link, RecordStore } from '@sepia/shared/records/record-store';
import { decideLinked } from '../core/quorum.ts';
import type { BlobName } from './fetch-parts.ts';
import { type Members, QUICK_MS, repositoryQuery } from './members.ts';
import type { Upstreams } from './upstreams.ts';

/** A link as members tell it to each other. */
export interface LinkEntry {
  readonly upstream: string;
  readonly repository: string;
  readonly digest: Digest;
  readonly sizeBytes?: number | undefined;
  readonly mediaType?: string | undefined;
}

/** How long a link that was found is believed without asking again, in ms. */
const CACHE_MS = 60_000;
const MAX_CACHED = 50_000;
/** Most links in one message. */
export const MAX_LINKS = 10_000;

interface LinksDeps {
  readonly members: Members;
  readonly records: RecordStore;
  readonly upstreams: Upstreams;
  readonly nowMs: () => number;
  /** Told of each link that is new here. */
  readonly onLinked?: (entry: LinkEntry) => void;
}

/**
 * Links (upstream, repository) → digest on the owners of the repository's shard: written to W of them, found if
 * any says yes. In pull-through, a link that is missing is confirmed once at the upstream.
 */
export class Links {
  readonly #deps: LinksDeps;
  /** `written`: by a quorum write of this process; one that was only found may be on too few owners. */
  readonly #cache = new Map<string, { entry: LinkEntry; written: boolean; untilMs: number }>();
  readonly #confirming = new Map<string, Promise<LinkEntry>>();

  constructor(deps: LinksDeps) {
    this.#deps = deps;
  }

  /** This origin's own record, for other members. */
  async own(upstream: string, repository: string, digest: Digest): Promise<LinkEntry | undefined> {
    const link = await this.#deps.records.getLink(upstream, repository, digest);
    return link === undefined
      ? undefined
      : { upstream, repository, digest, sizeBytes: link.sizeBytes, mediaType: link.mediaType };
  }

  /** Stores links here, for other members. Durable when it resolves. */
  async putOwn(entries: readonly LinkEntry[]): Promise<void> {
    const atMs = this.#deps.nowMs();
    await Promise.all(
      entries.map(async ({ upstream, repository, digest, sizeBytes, mediaType }) => {
        const known = await this.#deps.records.getLink(upstream, repository, digest);
        const link: Link = {
          atMs,
          ...defined('sizeBytes', sizeBytes ?? known?.sizeBytes),
          ...defined('mediaType', mediaType ?? known?.mediaType),
        };
        if (known !== undefined && known.sizeBytes === link.sizeBytes && known.mediaType === link.mediaType)
          return;
        await this.#deps.records.putLink(upstream, repository, digest, link);
        if (known === undefined)
          this.#deps.onLinked?.({ upstream, repository, digest, sizeBytes: link.sizeBytes });
      }),
    );
  }

  /** Takes a link away here: a tombstone and no memory of it. Other owners keep theirs. */
  async forgetOwn(name: BlobName): Promise<void> {
    this.#cache.delete(keyOf(name));
    await this.#deps.records.deleteLink(name.upstream, name.repository, name.digest, this.#deps.nowMs());
    this.#cache.delete(keyOf(name));
  }

  /** Writes links of one repository to W of its owners; the rest follows behind. @throws `QUORUM_LOST` */
  async write(entries: readonly LinkEntry[]): Promise<void> {
    const fresh = entries.filter((entry) => !this.#isWritten(entry));
    const [first] = fresh;
    if (first === undefined) return;
    const { owners, writeQuorum } = this.#deps.members.placement(shardKey(first.upstream, first.repository));
    await acknowledged(owners, writeQuorum, async (id) => {
      for (let at = 0; at < fresh.length; at += MAX_LINKS)
        await this.#put(id, fresh.slice(at, at + MAX_LINKS));
    });
    for (const entry of fresh) this.#remember(entry, true);
  }

  /** The link, or undefined if enough owners say that there is none. @throws `QUORUM_LOST` */
  async find(name: BlobName): Promise<LinkEntry | undefined> {
    const cached = this.#cache.get(keyOf(name));
    if (cached !== undefined && cached.untilMs > this.#deps.nowMs()) return cached.entry;
    const found = await this.#ask(name);
    if (found !== undefined) this.#remember(found, false);
    return found;
  }

  /**
   * The link; where it is missing in pull-through, the upstream is asked once and the link written.
   * @throws `BLOB_UNKNOWN`, `QUORUM_LOST`, `BACKEND_DOWN` and what the upstream says
   */
  async require(name: BlobName, signal: AbortSignal): Promise<LinkEntry> {
    const client = this.#deps.upstreams.client(name.upstream);
    let lost: unknown;
    try {
      const found = await this.find(name);
      if (found !== undefined) return found;
    } catch (error) {
      if (client === undefined || !isCoded(error, 'QUORUM_LOST')) throw error;
      lost = error;
    }
    if (client === undefined)
      throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest, repository: name.repository } });
    const key = keyOf(name);
    let running = this.#confirming.get(key);
    if (running === undefined) {
      running = (async () => {
        const { sizeBytes } = await client.headBlob(
          { repository: name.repository, digest: name.digest },
          AbortSignal.timeout(15_000),
        );
        const entry: LinkEntry = { ...name, sizeBytes };
        await this.write([entry]).catch((error: unknown) => {
          if (!isCoded(error, 'QUORUM_LOST')) throw error;
          this.#remember(entry, false);
        });
        return entry;
      })().finally(() => this.#confirming.delete(key));
      this.#confirming.set(key, running);
    }
    try {
      return await running;
    } catch (error) {
      signal.throwIfAborted();
      throw isCoded(error) && error.code !== 'BACKEND_DOWN' ? error : (lost ?? error);
    }
  }

  async #ask(name: BlobName): Promise<LinkEntry | undefined> {
    const { members } = this.#deps;
    const { owners, writeQuorum } = members.placement(shardKey(name.upstream, name.repository));
    const stop = new AbortController();
    try {
      return await new Promise<LinkEntry | undefined>((resolve, reject) => {
        let no = 0;
        let open = owners.length;
        const judge = (): void => {
          if (decideLinked(0, no, owners.length, writeQuorum) === 'no') resolve(undefined);
          else if (open === 0)
            reject(
              new CodedError('QUORUM_LOST', {
                message: 'too few origins answer to know whether this is linked',
                detail: { owners, digest: name.digest },
              }),
            );
        };
        for (const id of owners) {
          const asked =
            id === members.selfId
              ? this.own(name.upstream, name.repository, name.digest)
              : this.#get(id, name, stop.signal);
          asked
            .then((found) => {
              if (found !== undefined) resolve(found);
              else no += 1;
            })
            .catch(() => undefined)
            .finally(() => {
              open -= 1;
              judge();
            });
        }
      });
    } finally {
      stop.abort(new CodedError('TIMEOUT', { message: 'other owners answered' }));
    }
  }

  async #get(id: string, name: BlobName, signal: AbortSignal): Promise<LinkEntry | undefined> {
    const path = `/v1/links?${repositoryQuery(name)}&digest=${encodeURIComponent(name.digest)}`;
    try {
      const found = await this.#deps.members.json<Partial<LinkEntry>>(id, { method: 'GET', path, signal });
      return {
        upstream: name.upstream,
        repository: name.repository,
        digest: name.digest,
        sizeBytes: found.sizeBytes,
        mediaType: found.mediaType,
      };
    } catch (error) {
      if (isCoded(error, 'BLOB_UNKNOWN')) return undefined;
      throw error;
    }
  }

  async #put(id: string, links: readonly LinkEntry[]): Promise<void> {
    if (id === this.#deps.members.selfId) return await this.putOwn(links);
    await this.#deps.members.json(id, {
      method: 'PUT',
      path: '/v1/links',
      json: { links },
      headersTimeoutMs: QUICK_MS * 4,
    });
  }

  #isWritten(entry: LinkEntry): boolean {
    const cached = this.#cache.get(keyOf(entry));
    if (cached?.written !== true || cached.untilMs <= this.#deps.nowMs()) return false;
    const known = cached.entry;
    return (
      (entry.sizeBytes ?? known.sizeBytes) === known.sizeBytes &&
      (entry.mediaType ?? known.mediaType) === known.mediaType
    );
  }

  #remember(entry: LinkEntry, written: boolean): void {
    const key = keyOf(entry);
    this.#cache.delete(key);
    this.#cache.set(key, { entry, written, untilMs: this.#deps.nowMs() + CACHE_MS });
    if (this.#cache.size > MAX_CACHED) this.#cache.delete(this.#cache.keys().next().value as string);
  }
}

/**
 * Runs `write` on all ids at once; resolves when `quorum` succeeded, the others go on behind.
 * @throws `QUORUM_LOST` when that is out of reach, with the last error as cause
 */
export async function acknowledged(
  ids: readonly string[],
  quorum: number,
  write: (id: string) => Promise<void>,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let good = 0;
    let bad = 0;
    for (const id of ids) {
      write(id).then(
        () => {
          good += 1;
          if (good >= quorum) resolve();
        },
        (cause: unknown) => {
          bad += 1;
          if (ids.length - bad < quorum)
            reject(
              new CodedError('QUORUM_LOST', {
                message: 'too few origins took the write',
                detail: { owners: ids, needed: quorum },
                cause,
              }),
            );
        },
      );
    }
    if (ids.length < quorum || ids.length === 0)
      reject(new CodedError('QUORUM_LOST', { detail: { owners: ids } }));
  });
}

function keyOf(name: {
  readonly upstream: string;
  readonly repository: string;
  readonly digest: string;
}): string {
  return `${name.upstream}\n${name.repository}\n${name.digest}`;
}

function defined<K extends string, V>(key: K, value: V | undefined): { [k in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [k in K]?: V });
}
