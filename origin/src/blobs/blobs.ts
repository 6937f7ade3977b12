import { answersOf, askAll } from '@sepia/base/async/ask-many';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Where } from '@sepia/cluster/api/blob-answers';
import type { PeerEntry } from '@sepia/cluster/api/join';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { allToldBy, hasHolder, type Located, locate, toldBy } from '@sepia/cluster/core/where';
import { checkedPiece } from '@sepia/http/bodies/checked-body';
import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import { FINAL_ATTEMPT, type Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceCount, pieceHash } from '@sepia/metainfo/tree';
import type { BlobStore } from '@sepia/store/blob-store';
import type { BlobAttrs } from '@sepia/store/sidecar';
import type { Members } from '../cluster/members.ts';
import type { Others } from '../cluster/others.ts';
import { QUICK_MS } from '../deadlines/members.ts';
import { isAnswerFor } from '../fetch/another-name.ts';
import type { Fetch } from '../fetch/fetch.ts';
import type { Fetches } from '../fetch/fetches.ts';
import type { LinkProofs } from '../proofs/link-proofs.ts';
import type { LinkEntry, Links } from '../records/links.ts';
import { keptSize } from '../upstream/kept-size.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { Absence } from './absence.ts';
import { doubtUnknown } from './doubt-unknown.ts';
import { Handouts, type VouchedPiece } from './handouts.ts';
import { missingBlob, missingThere, UNDECIDED } from './missing-blob.ts';
import type { Repair } from './repair.ts';
import { storedBlob } from './stored-blob.ts';
import type { Swarms } from './swarms.ts';

/** Where a blob is served from: here, or another origin that has it or is to fetch it. */
export type Opened =
  | {
      readonly type: 'local';
      readonly blob: ReadableBlob;
      readonly mediaType: string | undefined;
      /** Type that it was stored under as a manifest. */
      readonly storedAs?: string | undefined;
      close(): Promise<void>;
    }
  | { readonly type: 'remote'; readonly id: string };

/** Where the metainfo of a blob is: here, with the fetch that adds to it if one runs, or at the origin that fetches the blob. */
export type MetainfoSource =
  | { readonly type: 'local'; readonly metainfo: Metainfo; readonly fetch: Fetch | undefined }
  | { readonly type: 'remote'; readonly id: string };

export interface MetainfoOptions {
  /** This origin becomes the leader if nobody else is. */
  readonly fetch: boolean;
  /** False: only what readers ask for is fetched. */
  readonly wantAll: boolean;
  /** A fetch that runs for readers alone is told that everything is wanted, also without `fetch`. */
  readonly raise?: boolean;
  /** The piece that is read first, if known. */
  readonly firstPiece?: number | undefined;
  readonly others: Others;
}

interface BlobsDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly absence: Pick<Absence, 'require' | 'noteMissed'>;
  readonly links: Links;
  readonly proofs: LinkProofs;
  readonly fetches: Fetches;
  readonly swarms: Swarms;
  readonly upstreams: Upstreams;
  readonly repair: Repair;
  readonly onCached: (name: BlobName) => void;
}

export interface OpenOptions {
  /** Damage is an error and not mended first: the request comes from an origin that mends its own copy. */
  readonly asIs?: boolean;
  /** First and last piece that the request reads; without the last the whole blob is wanted. */
  readonly firstPiece?: number | undefined;
  readonly lastPiece: number | undefined;
  readonly others: Others;
}

/** Finds blobs: here, at other origins, at the upstream. */
export class Blobs {
  readonly #deps: BlobsDeps;
  readonly #handouts = new Handouts();

  constructor(deps: BlobsDeps) {
    this.#deps = deps;
  }

  /** What is here, without side effect. */
  async where(name: BlobName): Promise<Where> {
    const { store, fetches, links, proofs, upstreams } = this.#deps;
    const [stat, link] = await Promise.all([store.stat(name.digest), links.own(name)]);
    const hasLink = link !== undefined;
    proofs.noteLink(name, link);
    const came = fetches.cameWrong(name) ? { cameWrong: true } : {};
    // Without proof nothing may be answered from here alone.
    if (stat !== undefined) {
      const { class: kept, provenance } = stat.attrs;
      const linked = hasLink && proofs.isProven(name, provenance);
      // A copy that only other upstreams' pushes brought may become a cached one before the registry has the blob.
      const isOther =
        upstreams.keepsPushes(name.upstream) && !provenance.some((one) => one.upstream === name.upstream);
      const told = { ...came, sizeBytes: stat.sizeBytes, linked, class: isOther ? 'cached' : kept } as const;
      return { state: 'final', ...told, upstreams: [...new Set(provenance.map(({ upstream }) => upstream))] };
    }
    const fetch = fetches.running(name.digest);
    if (fetch?.sizeBytes === undefined) {
      await this.#deps.absence.require(name.digest);
      return { state: 'none', linked: hasLink, ...came };
    }
    return {
      state: 'open',
      sizeBytes: fetch.sizeBytes,
      fetchedBytes: fetches.fetchedBytes(fetch),
      linked: hasLink && proofs.isProven(name, [fetch.name]),
      ...came,
    };
  }

  /** The link, and its proof where the bytes here came under another name. @throws as `Links.require` and `LinkProofs.require` */
  async admit(name: BlobName, signal: AbortSignal): Promise<LinkEntry> {
    const { proofs, store } = this.#deps;
    const link = await this.#linkOf(name, signal);
    const stat = await store.stat(name.digest);
    if (stat !== undefined) await proofs.require(name, stat.attrs, signal);
    await this.#runningFor(name, signal);
    return link;
  }

  /** The link alone: whoever shows bytes under it looks whether it is proven for those. @throws as `Links.require` */
  async #linkOf(name: BlobName, signal: AbortSignal): Promise<LinkEntry> {
    const link = await this.#deps.links.require(name, signal);
    this.#deps.proofs.noteLink(name, link);
    return link;
  }

  /** The running fetch of a blob, or one that ended well meanwhile, once its bytes may be shown under this name: what is opened is looked at again. */
  async #runningFor(name: BlobName, signal: AbortSignal): Promise<Fetch | undefined> {
    for (;;) {
      const fetch = this.#deps.fetches.running(name.digest);
      if (fetch === undefined || this.#deps.proofs.isProven(name, [fetch.name]))
        return fetch && this.#deps.fetches.shown(fetch, name);
      await this.#deps.proofs.require(name, { provenance: [fetch.name] }, signal);
      if (fetch.state === 'final') return fetch;
    }
  }

  /** As `Fetches.begin`; joins the fetch of another name only once that is proven, also one that began while it waited. */
  async begin(name: BlobName, options: Parameters<Fetches['begin']>[1], signal: AbortSignal): Promise<Fetch> {
    await this.#deps.proofs.requireShown(name, signal, options.authorization);
    const joined = await this.#runningFor(name, signal);
    if (joined?.state === 'final') return joined;
    const fetch = await this.#deps.fetches.begin(name, options, signal);
    const isProven = this.#deps.proofs.isProven(name, [fetch.name]);
    return isProven ? this.#deps.fetches.shown(fetch, name) : await this.begin(name, options, signal);
  }

  /** Where else the blob is: all that could hold it are asked at once, the best answer ends it. */
  async locateOthers(name: BlobName, signal?: AbortSignal): Promise<Located> {
    const { members } = this.#deps;
    const ids = members.candidates(name.digest).filter((id) => id !== members.selfId);
    // Who knows a newer ring does not answer by this one: an owner of before may be a stand-in there, and have nothing.
    const call = { ...to(ORIGIN_BLOBS.where, name), epoch: members.epoch, bodyTimeoutMs: QUICK_MS };
    const ask = async (id: string, over: AbortSignal) =>
      toldBy(id, await members.json<Where>(id, { ...call, signal: over }));
    const said = await askAll(ids, ask, { signal, isEnough: (so) => hasHolder(answersOf(so)) });
    return locate(allToldBy(said), members.placement(name.digest).owners);
  }

  /** Size of a blob as another origin tells it that has it, undefined where none does. */
  async sizeElsewhere(name: BlobName): Promise<number | undefined> {
    const found = await this.locateOthers(name);
    if (found.type !== 'at') return undefined;
    const where = this.#deps.members.json<Where>(found.originIds[0], to(ORIGIN_BLOBS.where, name));
    return (await where.catch(ignoreFailure))?.sizeBytes;
  }

  /**
   * Opens a blob for a reader; fetches it from the upstream where nobody has it.
   * @throws `BLOB_UNKNOWN` only when all that could hold an acknowledged copy said no, `QUORUM_LOST`, what the fetch fails with
   */
  async open(name: BlobName, options: OpenOptions, signal: AbortSignal): Promise<Opened> {
    const link = await this.#linkOf(name, signal);
    const { asIs = false, firstPiece } = options;
    const stored = await this.#openStored(name, link.mediaType, asIs, signal);
    if (stored !== undefined) return stored;
    const wantAll = options.lastPiece === undefined;
    let fetch = await this.#runningFor(name, signal);
    if (fetch === undefined) {
      const id = await this.elsewhere(name, options.others);
      if (id !== undefined) return { type: 'remote', id };
      fetch = await this.begin(name, { wantAll, sizeHint: link.sizeBytes, firstPiece }, signal);
    } else if (wantAll) fetch.fetchAll();
    if (!(await this.#isSized(name, link, fetch, signal))) return await this.open(name, options, signal);
    if (fetch.state === 'final' || fetch.partial?.state === 'committed') {
      const fetched = await this.#openStored(name, link.mediaType, asIs, signal);
      if (fetched !== undefined) return fetched;
    }
    const blob = fetch.open(options.lastPiece);
    return { type: 'local', blob, mediaType: link.mediaType, close: async () => await blob.close() };
  }

  /** As {@link open}, here alone: after the other origin that was named did not answer. */
  async openHere(name: BlobName, lastPiece: number | undefined, signal: AbortSignal): Promise<Opened> {
    return await this.open(name, { lastPiece, others: 'skip' }, signal);
  }

  /**
   * One piece, for a member that does not know its hash yet: fetched out of order where it is not here.
   * `lastPiece`: how far that member reads on. @throws as {@link open}; `RANGE_INVALID` for a piece outside the blob
   */
  async piece(
    name: BlobName,
    index: number,
    options: OpenOptions,
    signal: AbortSignal,
  ): Promise<VouchedPiece> {
    const opened = await this.open(name, { firstPiece: index, ...options }, signal);
    if (opened.type === 'remote') return opened;
    const { blob } = opened;
    try {
      const count = pieceCount(blob.sizeBytes);
      if (index >= count)
        throw new CodedError('RANGE_INVALID', { detail: { piece: index, pieceCount: count } });
      const lastPiece = Math.min(count - 1, options.lastPiece ?? index);
      const reader = blob.openReader(index, Math.min(blob.sizeBytes, (lastPiece + 1) * PIECE_BYTES) - 1);
      try {
        const bytes = await checkedPiece(blob, index, signal);
        return this.#vouch(name.digest, index, bytes);
      } finally {
        reader.close();
      }
    } finally {
      await opened.close();
    }
  }

  #vouch(digest: Digest, index: number, bytes: Uint8Array): VouchedPiece {
    const metainfo = this.#deps.fetches.running(digest)?.metainfo;
    const hash = metainfo?.pieceHash(index);
    if (metainfo === undefined || hash === undefined)
      return { type: 'local', attempt: FINAL_ATTEMPT, hash: pieceHash(bytes), bytes };
    const isFirst = this.#handouts.give(digest, metainfo.attempt, index);
    return { type: 'local', attempt: metainfo.attempt, hash, bytes: isFirst ? bytes : undefined };
  }

  /** Size of a blob for HEAD, as a GET would give it: what a manifest tells of it is no answer. @throws as {@link open} */
  async head(
    name: BlobName,
    others: Others,
    signal: AbortSignal,
  ): Promise<{ sizeBytes: number; mediaType: string | undefined }> {
    const { store, fetches, upstreams, members } = this.#deps;
    const link = await this.admit(name, signal);
    const { mediaType } = link;
    const here = (await store.stat(name.digest))?.sizeBytes ?? fetches.running(name.digest)?.sizeBytes;
    if (here !== undefined) return { sizeBytes: here, mediaType };
    const id = await this.elsewhere(name, others);
    if (id !== undefined) {
      const { sizeBytes } = await members.json<Where>(id, to(ORIGIN_BLOBS.where, name));
      if (sizeBytes !== undefined) return { sizeBytes, mediaType };
    }
    await this.#deps.proofs.requireShown(name, signal);
    const stated = await this.#ask(name, link, () => keptSize(upstreams.blobs(name.upstream), name, signal));
    if (stated !== undefined) return { sizeBytes: stated, mediaType };
    const opened = await this.open(name, { lastPiece: 0, firstPiece: 0, others: 'skip' }, signal);
    if (opened.type === 'remote') throw new CodedError('NO_PEERS', { detail: { digest: name.digest } });
    await opened.close();
    return { sizeBytes: opened.blob.sizeBytes, mediaType };
  }

  /** Metainfo of a blob, or who has it. With `fetch` this origin becomes the leader if nobody else is. */
  async metainfo(name: BlobName, options: MetainfoOptions, signal: AbortSignal): Promise<MetainfoSource> {
    const link = await this.#linkOf(name, signal);
    const whole = await this.#wholeMetainfo(name, signal);
    if (whole !== undefined) return { type: 'local', metainfo: whole, fetch: undefined };
    let fetch = await this.#runningFor(name, signal);
    if (fetch === undefined) {
      const mayFetch = options.fetch && this.#deps.upstreams.blobs(name.upstream) !== undefined;
      if (options.others === 'ask' || !mayFetch) {
        const found = options.others === 'ask' ? await this.locateOthers(name, signal) : UNDECIDED;
        if (found.type === 'at') return { type: 'remote', id: found.originIds[0] };
        if (!mayFetch) throw missingBlob(name, found);
      }
      const { wantAll, firstPiece } = options;
      fetch = await this.begin(name, { wantAll, sizeHint: link.sizeBytes, firstPiece }, signal);
    } else if (options.wantAll && (options.fetch || options.raise === true)) fetch.fetchAll();
    const found = await this.#metainfoOf(fetch, name, link, signal);
    return found ?? (await this.metainfo(name, options, signal));
  }

  /** Takes over an open attempt: pieces from `peers` first, the rest from the upstream. */
  async adopt(
    name: BlobName,
    known: Metainfo,
    peers: readonly PeerEntry[],
    wantAll: boolean,
    signal: AbortSignal,
  ): Promise<MetainfoSource> {
    const link = await this.#linkOf(name, signal);
    const whole = await this.#wholeMetainfo(name, signal);
    if (whole !== undefined) return { type: 'local', metainfo: whole, fetch: undefined };
    const adopted = { wantAll, sizeHint: link.sizeBytes, adopt: known, hasPeers: peers.length > 0 };
    const fetch = await this.begin(name, adopted, signal);
    const found = await this.#metainfoOf(fetch, name, link, signal);
    if (found === undefined) return await this.adopt(name, known, peers, wantAll, signal);
    this.#deps.swarms.addPeers(name.digest, peers);
    return found;
  }

  /** Asks a backend or upstream. "Not there" of a backend says nothing about what an origin that is silent owes it. */
  async #ask<T>(name: BlobName, link: LinkEntry, ask: () => Promise<T> | undefined): Promise<T | undefined> {
    try {
      return await doubtUnknown(name, link, this, async () => await ask());
    } catch (error) {
      const decides = this.#deps.upstreams.client(name.upstream) !== undefined;
      if (decides || !isCoded(error, 'BLOB_UNKNOWN')) throw error;
      throw missingThere(name, await this.locateOthers(name));
    }
  }

  /** As {@link isAnswerFor}, of its size. */
  async #isSized(name: BlobName, link: LinkEntry, fetch: Fetch, signal: AbortSignal): Promise<boolean> {
    return await isAnswerFor(name, fetch, () => this.#ask(name, link, () => fetch.whenSized(signal)));
  }

  /** Undefined where it is to be asked for anew. */
  async #metainfoOf(
    fetch: Fetch,
    name: BlobName,
    link: LinkEntry,
    signal: AbortSignal,
  ): Promise<MetainfoSource | undefined> {
    if (!(await this.#isSized(name, link, fetch, signal))) return undefined;
    const whole = fetch.state === 'final' ? await this.#wholeMetainfo(name, signal) : undefined;
    const metainfo = whole ?? fetch.metainfo;
    if (metainfo === undefined) throw new CodedError('NO_PEERS', { detail: { digest: name.digest } });
    return { type: 'local', metainfo, fetch: whole === undefined ? fetch : undefined };
  }

  /** What is stored, by its attributes, may be shown under this name; where nothing is (undefined), it may be missing. */
  async #prove(name: BlobName, attrs: BlobAttrs | undefined, signal: AbortSignal): Promise<void> {
    const { proofs, absence, onCached } = this.#deps;
    if (attrs === undefined) await absence.noteMissed(name.digest);
    else await proofs.require(name, attrs, signal);
    if (attrs?.class === 'cached') onCached(name);
  }

  async #wholeMetainfo(name: BlobName, signal: AbortSignal): Promise<Metainfo | undefined> {
    const { store, swarms } = this.#deps;
    const told = await store.tell(name.digest);
    await this.#prove(name, told?.attrs, signal);
    if (told !== undefined) swarms.seed(told.metainfo);
    return told?.metainfo;
  }

  async #openStored(
    name: BlobName,
    mediaType: string | undefined,
    asIs: boolean,
    signal: AbortSignal,
  ): Promise<Opened | undefined> {
    const handle = await this.#deps.store.open(name.digest);
    try {
      await this.#prove(name, handle?.attrs, signal);
    } catch (error) {
      await handle?.close();
      throw error;
    }
    if (handle === undefined) return undefined;
    const blob = storedBlob(handle, this.#deps.repair, { asIs });
    return {
      type: 'local',
      blob,
      mediaType: handle.attrs.mediaType ?? mediaType,
      storedAs: handle.attrs.mediaType,
      close: async () => await handle.close(),
    };
  }

  /** The origin that has the blob or is to fetch it; undefined if that is this one. @throws as {@link open} */
  async elsewhere(name: BlobName, others: Others): Promise<string | undefined> {
    const { members, upstreams } = this.#deps;
    const fetchable = upstreams.blobs(name.upstream) !== undefined;
    // It was named as its holder, or who was named is gone: others may have it, whom nobody asked.
    if (others === 'skip' && !fetchable) throw missingBlob(name, UNDECIDED);
    if (others === 'skip') return undefined;
    const found = await this.locateOthers(name);
    if (found.type === 'at') return found.originIds[0];
    if (!fetchable) throw missingBlob(name, found);
    const leader = members.leaderOf(name.digest);
    return leader === members.selfId ? undefined : leader;
  }
}
