import { askInTurn } from '@sepia/base/async/ask-many';
import { SingleFlight } from '@sepia/base/async/single-flight';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure, logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { type BlobName, linkKey } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { BlobStore } from '@sepia/store/blob-store';
import type { RotCounts } from '@sepia/store/rot/rot-metrics';
import type { Provenance } from '@sepia/store/sidecar';
import { MEND_MS } from '../deadlines.ts';
import type { ClusterGuide } from '../downloads/guide.ts';
import { CachedBlob } from './cached-blob.ts';
import type { Seeds } from './seeds.ts';

/** Pieces that are looked at at once because of complaints; more complaints are dropped. */
const MAX_LOOKS = 16;

interface CachedBlobsDeps {
  readonly store: BlobStore;
  readonly seeds: Seeds;
  readonly guideOf: (name: BlobName) => ClusterGuide;
  readonly log: Logger;
  readonly onBytes: (source: 'origin', bytes: number) => void;
  readonly rot: Pick<RotCounts, 'onRotten' | 'onMended' | 'onUnmended'>;
}

/** The blobs that are whole on disk: their links are proven, what rotted is mended. */
export class CachedBlobs {
  readonly #deps: CachedBlobsDeps;
  readonly #mending = new SingleFlight<string, Uint8Array>();
  readonly #looking = new Set<string>();

  constructor(deps: CachedBlobsDeps) {
    this.#deps = deps;
  }

  /** The blob, or undefined if it is not here. Call `release` once. @throws `BLOB_UNKNOWN` and the like where it is not linked */
  async open(
    name: BlobName,
    signal: AbortSignal,
  ): Promise<{ readonly blob: CachedBlob; release(): void } | undefined> {
    const handle = await this.#deps.store.open(name.digest);
    if (handle === undefined) return undefined;
    try {
      await this.#proveLink(name, handle, signal);
    } catch (error) {
      await handle.close();
      throw error;
    }
    this.#deps.seeds.touch(name.digest);
    return {
      blob: new CachedBlob(handle, (index, abort) => this.#mend(name, handle, index, abort)),
      release: () => void handle.close().catch(ignoreFailure),
    };
  }

  /**
   * Writes a right copy of a damaged piece over it, under any name that the blob is known by here.
   * @throws what the last origin answered, `BLOB_UNKNOWN` where the blob is gone or has no name
   */
  async mend(digest: Digest, index: number, signal: AbortSignal): Promise<void> {
    await using handle = await this.#deps.store.open(digest, { isLook: true });
    const names = handle?.attrs.provenance ?? [];
    if (names.length === 0) throw new CodedError('BLOB_UNKNOWN', { detail: { digest } });
    const ask = async ({ upstream, repository }: Provenance): Promise<void> => {
      const name = { upstream, repository: parseRepositoryName(repository), digest };
      await this.#mend(name, handle!, index, signal);
    };
    await askInTurn(names, ask, { signal });
  }

  /** A member got a piece from here that was wrong: it is read again, and mended behind if it is damaged. */
  lookBehind(digest: Digest, index: number): void {
    const { log } = this.#deps;
    this.#look(digest, index).catch((error: unknown) =>
      logFailure(log, error, 'a damaged piece could not be mended', { digest, piece: index }, 'error'),
    );
  }

  async #look(digest: Digest, index: number): Promise<void> {
    const key = `${digest}/${index}`;
    if (this.#looking.has(key) || this.#looking.size >= MAX_LOOKS) return;
    this.#looking.add(key);
    try {
      await using handle = await this.#deps.store.open(digest, { isLook: true });
      await handle?.readPieceVerified(index);
    } catch (error) {
      if (!isCoded(error, 'DISK_CORRUPT')) throw error;
      await this.mend(digest, index, AbortSignal.timeout(MEND_MS));
    } finally {
      this.#looking.delete(key);
    }
  }

  /** Size of a blob that is here and linked. */
  async sizeBytes(name: BlobName): Promise<number | undefined> {
    const stat = await this.#deps.store.stat(name.digest);
    return stat !== undefined && isLinked(stat.attrs.provenance, name) ? stat.sizeBytes : undefined;
  }

  /**
   * A cached blob is served under a repository only by its link; one join proves it, under another upstream all of its
   * bytes. That a manifest of the repository names the digest proves nothing: anybody writes manifests.
   */
  async #proveLink(name: BlobName, handle: BlobHandle, signal: AbortSignal): Promise<void> {
    if (isLinked(handle.attrs.provenance, name)) return;
    const { upstream, repository, digest } = name;
    const { guideOf, store, log } = this.#deps;
    const isOfUpstream = handle.attrs.provenance.some((one) => one.upstream === upstream);
    await guideOf(name).vouch(isOfUpstream, false, signal);
    try {
      await store.addProvenance(digest, { upstream, repository });
    } catch (error) {
      throwIfBug(error);
      log.warn({ err: error, digest }, 'link is not kept; served all the same');
    }
  }

  /**
   * A right copy of a damaged piece, written over it; those who need it at once share one fetch. That it failed under another name
   * is no answer: that may be the word of an upstream that has nothing to do with this one.
   */
  async #mend(name: BlobName, handle: BlobHandle, index: number, signal: AbortSignal): Promise<Uint8Array> {
    let isOwn = false;
    const mend = async (running: AbortSignal): Promise<Uint8Array> => {
      isOwn = true;
      return await this.#mendNow(name, handle, index, running);
    };
    try {
      return await this.#mending.run(`${name.digest}/${index}`, mend, signal);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      if (isOwn) throw error;
    }
    return await this.#mending.run(`${linkKey(name)}/${index}`, mend, signal);
  }

  async #mendNow(
    name: BlobName,
    handle: BlobHandle,
    index: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const { digest } = name;
    const { log, seeds, store, rot } = this.#deps;
    rot.onRotten();
    log.error({ digest, piece: index }, 'a cached piece is damaged on disk; fetching it again');
    let piece: Uint8Array;
    try {
      piece = await this.#deps.guideOf(name).refetch(handle.metainfo(), index, signal);
    } catch (error) {
      // Other nodes need not find out one by one.
      seeds.drop(digest);
      // Where nobody waits any more, nobody is known to have no right copy.
      if (isCoded(error) && !signal.aborted) rot.onUnmended(digest, index);
      throw error;
    }
    this.#deps.onBytes('origin', piece.length);
    try {
      if (await store.mendPiece(digest, index, piece)) rot.onMended(digest, index);
    } catch (error) {
      throwIfBug(error);
      rot.onUnmended(digest, index);
      log.error({ err: error, digest, piece: index }, 'a damaged piece could not be written again');
    }
    return piece;
  }
}

function isLinked(provenance: readonly Provenance[], name: BlobName): boolean {
  return provenance.some((one) => one.upstream === name.upstream && one.repository === name.repository);
}

/** Attributes of a blob that this node keeps. */
export function attrsOf(name: BlobName) {
  return {
    class: 'cached' as const,
    provenance: [{ upstream: name.upstream, repository: name.repository }],
    writtenBack: true,
  };
}
