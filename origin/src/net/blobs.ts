import type { Digest } from '@sepia/shared/digest';
import { CodedError } from '@sepia/shared/errors';
import type { ReadableBlob } from '@sepia/shared/http/readable-blob';
import type { Metainfo } from '@sepia/shared/metainfo/metainfo';
import type { BlobStore } from '@sepia/shared/store/blob-store';
import type { PeerEntry } from '@sepia/shared/wire/join';
import { type Located, locate, type WhereState } from '../core/quorum.ts';
import type { Fetch } from './fetch.ts';
import type { BlobName } from './fetch-parts.ts';
import type { Fetches } from './fetches.ts';
import type { LinkProofs } from './link-proofs.ts';
import type { LinkEntry, Links } from './links.ts';
import { type Members, QUICK_MS, repositoryQuery } from './members.ts';
import type { Repair } from './repair.ts';
import { storedBlob } from './stored-blob.ts';
import type { Swarms } from './swarms.ts';
import type { Upstreams } from './upstreams.ts';

/** Answer of `GET /v1/blobs/<digest>/where`. */
export interface Where {
  readonly state: 'final' | 'open' | 'none';
  readonly sizeBytes?: number;
  /** By this origin's own record alone: a guess where links can be deleted. */
  readonly linked: boolean;
}

/** Where a request goes on: here, or at another origin that has the blob or is to fetch it. */
export type Opened =
  | {
      readonly type: 'local';
      readonly blob: ReadableBlob;
      readonly mediaType: string | undefined;
      close(): Promise<void>;
    }
  | { readonly type: 'remote'; readonly id: string };

export type MetainfoSource =
  | { readonly type: 'local'; readonly metainfo: Metainfo; readonly fetch: Fetch | undefined }
  | { readonly type: 'remote'; readonly id: string };

interface BlobsDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly links: Links;
  readonly proofs: LinkProofs;
  readonly fetches: Fetches;
  readonly swarms: Swarms;
  readonly upstreams: Upstreams;
  readonly repair: Repair;
}

export interface OpenOptions {
  /** Last piece that the request reads; undefined for the whole blob. */
  readonly lastPiece: number | undefined;
  /** The request comes from another origin: it is not passed on. */
  readonly hop: boolean;
}

/** Finds blobs: here, at other origins, at the upstream. */
export class Blobs {
  readonly #deps: BlobsDeps;

  constructor(deps: BlobsDeps) {
    this.#deps = deps;
  }

  /** What is here, without side effect. */
  async where(name: BlobName): Promise<Where> {
    const { store, fetches, links, proofs } = this.#deps;
    const [stat, hasLink] = await Promise.all([store.stat(name.digest), links.hasOwn(name)]);
    // Without proof nothing may be answered from here alone.
    if (stat !== undefined) {
      const linked = hasLink && proofs.isProven(name, stat.attrs.provenance);
      return { state: 'final', sizeBytes: stat.sizeBytes, linked };
    }
    const fetch = fetches.running(name.digest);
    if (fetch?.sizeBytes === undefined) return { state: 'none', linked: hasLink };
    return {
      state: 'open',
      sizeBytes: fetch.sizeBytes,
      linked: hasLink && proofs.isProven(name, [fetch.name]),
    };
  }

  /** The link, and its proof where the bytes here came under another name. @throws as `Links.require` and `LinkProofs.ask` */
  async admit(name: BlobName, signal: AbortSignal): Promise<LinkEntry> {
    const { links, proofs, fetches } = this.#deps;
    const link = await links.require(name, signal);
    await proofs.requireStored(name, signal);
    const fetch = fetches.running(name.digest);
    if (fetch !== undefined && !proofs.isProven(name, [fetch.name]))
      await proofs.ask(name, undefined, signal);
    return link;
  }

  /** Where else the blob is: all that could hold it are asked at once, the best answer ends it. */
  async locateOthers(name: BlobName): Promise<Located> {
    const { members } = this.#deps;
    const ids = members.candidates(name.digest).filter((id) => id !== members.selfId);
    const answers = new Map<string, WhereState>();
    const stop = new AbortController();
    const path = `/v1/blobs/${name.digest}/where?${repositoryQuery(name)}`;
    await new Promise<void>((resolve) => {
      let open = ids.length;
      if (open === 0) resolve();
      for (const id of ids) {
        members
          .json<Where>(id, { method: 'GET', path, signal: stop.signal, bodyTimeoutMs: QUICK_MS })
          .then(
            ({ state }) => answers.set(id, state),
            () => answers.set(id, 'silent'),
          )
          .finally(() => {
            open -= 1;
            if (open === 0 || answers.get(id) === 'final') resolve();
          });
      }
    });
    stop.abort(new CodedError('TIMEOUT', { message: 'another origin has it' }));
    return locate(ids, answers);
  }

  /**
   * Opens a blob for a reader; fetches it from the upstream where nobody has it.
   * @throws `BLOB_UNKNOWN` only when all that could hold an acknowledged copy said no, `QUORUM_LOST`, what the fetch fails with
   */
  async open(name: BlobName, options: OpenOptions, signal: AbortSignal): Promise<Opened> {
    const { fetches } = this.#deps;
    const link = await this.admit(name, signal);
    const stored = await this.#openStored(name.digest, link.mediaType);
    if (stored !== undefined) return stored;
    const wantAll = options.lastPiece === undefined;
    let fetch = fetches.running(name.digest);
    if (fetch === undefined) {
      const id = await this.elsewhere(name, options.hop);
      if (id !== undefined) return { type: 'remote', id };
      fetch = fetches.begin(name, { wantAll, sizeHint: link.sizeBytes });
    } else if (wantAll) fetch.fetchAll();
    await fetch.whenSized(signal);
    if (fetch.state === 'final' || fetch.partial?.state === 'committed') {
      const fetched = await this.#openStored(name.digest, link.mediaType);
      if (fetched !== undefined) return fetched;
    }
    const blob = fetch.open(options.lastPiece);
    return { type: 'local', blob, mediaType: link.mediaType, close: async () => await blob.close() };
  }

  /** As {@link open}, here alone: after the other origin that was named did not answer. */
  async openHere(name: BlobName, lastPiece: number | undefined, signal: AbortSignal): Promise<Opened> {
    return await this.open(name, { lastPiece, hop: true }, signal);
  }

  /** Size of a blob for HEAD. @throws as {@link open} */
  async head(
    name: BlobName,
    hop: boolean,
    signal: AbortSignal,
  ): Promise<{ sizeBytes: number; mediaType: string | undefined }> {
    const { store, fetches, upstreams, members } = this.#deps;
    const link = await this.admit(name, signal);
    const { mediaType } = link;
    const here = (await store.stat(name.digest))?.sizeBytes ?? fetches.running(name.digest)?.sizeBytes;
    if (here !== undefined) return { sizeBytes: here, mediaType };
    const client = upstreams.client(name.upstream);
    if (client !== undefined) {
      if (link.sizeBytes !== undefined) return { sizeBytes: link.sizeBytes, mediaType };
      const { sizeBytes } = await client.headBlob(
        { repository: name.repository, digest: name.digest },
        signal,
      );
      if (sizeBytes !== undefined) return { sizeBytes, mediaType };
    }
    const id = await this.elsewhere(name, hop);
    if (id !== undefined) {
      const path = `/v1/blobs/${name.digest}/where?${repositoryQuery(name)}`;
      const { sizeBytes } = await members.json<Where>(id, { method: 'GET', path });
      if (sizeBytes !== undefined) return { sizeBytes, mediaType };
    }
    throw new CodedError('NO_PEERS', {
      message: 'size is not known before the blob was fetched',
      detail: { digest: name.digest },
    });
  }

  /** Metainfo of a blob, or who has it. With `fetch` this origin becomes the leader if nobody else is. */
  async metainfo(
    name: BlobName,
    options: { readonly fetch: boolean; readonly wantAll: boolean; readonly hop: boolean },
    signal: AbortSignal,
  ): Promise<MetainfoSource> {
    const { fetches } = this.#deps;
    const link = await this.admit(name, signal);
    const whole = await this.#wholeMetainfo(name.digest);
    if (whole !== undefined) return { type: 'local', metainfo: whole, fetch: undefined };
    let fetch = fetches.running(name.digest);
    if (fetch === undefined) {
      if (!options.hop || !options.fetch) {
        const found = options.hop ? ({ type: 'absent' } as const) : await this.locateOthers(name);
        if (found.type === 'at') return { type: 'remote', id: found.id };
        if (!options.fetch || this.#deps.upstreams.client(name.upstream) === undefined)
          throw this.#missing(name, found);
      }
      fetch = fetches.begin(name, { wantAll: options.wantAll, sizeHint: link.sizeBytes });
    } else if (options.fetch && options.wantAll) fetch.fetchAll();
    return await this.#metainfoOf(fetch, name, signal);
  }

  /** Takes over an open attempt: pieces from `peers` first, the rest from the upstream. */
  async adopt(
    name: BlobName,
    known: Metainfo,
    peers: readonly PeerEntry[],
    signal: AbortSignal,
  ): Promise<MetainfoSource> {
    const { fetches, swarms } = this.#deps;
    const link = await this.admit(name, signal);
    const whole = await this.#wholeMetainfo(name.digest);
    if (whole !== undefined) return { type: 'local', metainfo: whole, fetch: undefined };
    const fetch = fetches.begin(name, {
      wantAll: true,
      sizeHint: link.sizeBytes,
      adopt: known,
      hasPeers: peers.length > 0,
    });
    await fetch.whenSized(signal);
    swarms.addPeers(name.digest, peers);
    return await this.#metainfoOf(fetch, name, signal);
  }

  async #metainfoOf(fetch: Fetch, name: BlobName, signal: AbortSignal): Promise<MetainfoSource> {
    await fetch.whenSized(signal);
    const whole = fetch.state === 'final' ? await this.#wholeMetainfo(name.digest) : undefined;
    const metainfo = whole ?? fetch.metainfo;
    if (metainfo === undefined) throw new CodedError('NO_PEERS', { detail: { digest: name.digest } });
    return { type: 'local', metainfo, fetch: whole === undefined ? fetch : undefined };
  }

  async #wholeMetainfo(digest: Digest): Promise<Metainfo | undefined> {
    const handle = await this.#deps.store.open(digest);
    if (handle === undefined) return undefined;
    try {
      const metainfo = handle.metainfo();
      this.#deps.swarms.seed(metainfo);
      return metainfo;
    } finally {
      await handle.close();
    }
  }

  async #openStored(digest: Digest, mediaType: string | undefined): Promise<Opened | undefined> {
    const handle = await this.#deps.store.open(digest);
    if (handle === undefined) return undefined;
    const blob = storedBlob(handle, this.#deps.repair);
    return {
      type: 'local',
      blob,
      mediaType: handle.attrs.mediaType ?? mediaType,
      close: async () => await handle.close(),
    };
  }

  /** The origin that has the blob or is to fetch it; undefined if that is this one. @throws as {@link open} */
  async elsewhere(name: BlobName, hop: boolean): Promise<string | undefined> {
    const { members, upstreams } = this.#deps;
    const fetchable = upstreams.client(name.upstream) !== undefined;
    if (hop) {
      if (fetchable) return undefined;
      throw this.#missing(name, { type: 'absent' });
    }
    const found = await this.locateOthers(name);
    if (found.type === 'at') return found.id;
    if (!fetchable) throw this.#missing(name, found);
    const leader = members.leaderOf(name.digest);
    return leader === members.selfId ? undefined : leader;
  }

  #missing(name: BlobName, found: Located): CodedError {
    const detail = { digest: name.digest, repository: name.repository };
    if (found.type === 'undecided')
      return new CodedError('QUORUM_LOST', {
        message: 'an origin that could hold this blob does not answer',
        detail,
      });
    return new CodedError('BLOB_UNKNOWN', { detail });
  }
}
