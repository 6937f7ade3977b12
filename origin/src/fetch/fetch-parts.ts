import { randomBytes } from 'node:crypto';
import type { BlobSource } from '@sepia/backend/blob-backend';
import { Bitfield } from '@sepia/base/bitfield';
import { type CodedError, takesNoWrites } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { Metainfo, requireKept } from '@sepia/metainfo/metainfo';
import { foldLeaves, PIECE_BYTES, pieceLeaves } from '@sepia/metainfo/tree';
import type { BlobStore } from '@sepia/store/blob-store';
import type { DiskRoom } from '@sepia/store/disk-room';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { BlobAttrs } from '@sepia/store/sidecar';
import type { UpstreamBlob } from '@sepia/upstream/queries';

/** What others see of a fetch. */
export interface FetchView {
  readonly name: BlobName;
  readonly state: 'sizing' | 'running' | 'final' | 'failed';
  readonly error: CodedError | undefined;
  /** Not told by the upstream, only by a manifest. */
  readonly isSizeTold: boolean;
  /** Undefined until the size is known, as are the next three. */
  readonly metainfo: Metainfo | undefined;
  readonly have: Bitfield | undefined;
  readonly sizeBytes: number | undefined;
  readonly partial: PartialBlob | undefined;
  fetchAll(): void;
  whenFinal(signal: AbortSignal): Promise<void>;
  changed(signal: AbortSignal): Promise<void>;
  pieceFromSwarm(piece: number, bytes: Uint8Array, leaves?: Uint8Array): Promise<void>;
}

/** What a fetch tells the swarm of its blob. */
export interface FetchEvents {
  /** The size is known: the swarm may be joined. `leech`: pieces are wanted from it. */
  started(fetch: FetchView, leech: boolean): void;
  landed(fetch: FetchView, piece: number): void;
  /** All of it, or pieces that came twice, were wrong; some of it may have been read. */
  cameWrong(fetch: FetchView): void;
  /** A new attempt dropped everything. */
  restarted(fetch: FetchView): void;
  /** Pieces that its members hold, as far as they are reached; undefined while none is. */
  peerPieces(fetch: FetchView): Bitfield | undefined;
  /** Committed, or failed; the fetch is over. */
  ended(fetch: FetchView): void;
}

export interface FetchDeps {
  readonly store: BlobStore;
  readonly client: BlobSource;
  readonly room: Pick<DiskRoom, 'require'>;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly events: FetchEvents;
  /** Counts bytes that came from the upstream. */
  readonly onUpstreamBytes: (bytes: number) => void;
}

export interface FetchOptions {
  /** Bytes of the blob as a manifest told, if known. */
  readonly sizeHint: number | undefined;
  /** False: only what readers ask for. */
  readonly wantAll: boolean;
  /** The piece that is read first, where that is known: its answer tells the size as well. */
  readonly firstPiece?: number | undefined;
  /** An open attempt of another leader to go on with. */
  readonly adopt?: Metainfo | undefined;
  /** Agents hold pieces of what is adopted: they are asked before the upstream. */
  readonly hasPeers?: boolean | undefined;
  /** Longest time without a byte, in ms. */
  readonly progressMs: number;
  /** The same while the upstream has not begun to answer, in ms. */
  readonly firstByteMs: number;
  /** A fetch for readers alone ends when there were none for this long, in ms. */
  readonly lingerMs: number;
}

/** Pieces whose hashes are known: in an attempt that is adopted, agents hold them. */
export function knownPieces(metainfo: Metainfo): Bitfield {
  const known = new Bitfield(metainfo.pieceCount);
  for (let piece = 0; piece < metainfo.pieceCount; piece++) if (metainfo.knows(piece)) known.add(piece);
  return known;
}

/** Merges what another leader knows of the same attempt; false (and nothing changed) if it is another or differs. */
export function mergeSame(own: Metainfo, known: Metainfo): boolean {
  return known.state === 'open' && known.attempt === own.attempt && own.merge(known) === 'merged';
}

/**
 * Lets go of a partial once those that were told just now had their turn to take it over. One that found no room
 * for the rest of it gives its own back.
 */
export function letGo(partial: PartialBlob, error: CodedError | undefined, log: Logger): void {
  const end = async (): Promise<void> => {
    try {
      if (takesNoWrites(error)) await partial.drop();
    } finally {
      await partial.release();
    }
  };
  setImmediate(() => {
    end().catch((cause: unknown) => logFailure(log, cause, 'partial not released'));
  });
}

/** Bytes that are still to be written. */
export function missingBytes({ sizeBytes, have }: PartialBlob): number {
  return Math.max(0, sizeBytes - have.count * PIECE_BYTES);
}

/** The partial of a blob; pieces of another upstream in it are dropped. `adopt`: the attempt to go on with. @throws as {@link requireKept} */
export async function openOwn(
  store: BlobStore,
  { digest, upstream: source }: BlobName,
  sizeBytes: number,
  adopt: Metainfo | undefined,
): Promise<PartialBlob> {
  requireKept(sizeBytes, { digest, upstream: source });
  const init = adopt === undefined ? {} : { metainfo: Metainfo.decode(adopt.encode()) };
  const partial = await store.openPartial(digest, sizeBytes, { source, ...init });
  try {
    if (adopt !== undefined) await partial.learn(adopt);
    return partial;
  } catch (error) {
    await partial.release();
    throw error;
  }
}

/** Drops a partial that nobody else has seen. */
export async function dropOwn(partial: PartialBlob): Promise<void> {
  try {
    await partial.drop();
  } finally {
    await partial.release();
  }
}

/** Drops all that was fetched: it was wrong. */
export async function beginAnew(partial: PartialBlob): Promise<void> {
  const attempt = randomBytes(16).toString('hex');
  await partial.replaceMetainfo(Metainfo.open(partial.digest, partial.sizeBytes, attempt));
}

/** Attributes of a blob that can be fetched again. */
export function cachedAttrs(name: BlobName): BlobAttrs {
  const provenance = [{ upstream: name.upstream, repository: name.repository }];
  return { class: 'cached', provenance, writtenBack: true };
}

/** Stores a body of unknown length as a blob. @throws `DIGEST_MISMATCH`, and what reading it fails with */
export async function storeUnsized(
  deps: Pick<FetchDeps, 'store'>,
  name: BlobName,
  blob: UpstreamBlob,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const upload = await deps.store.createUpload(`fetch-${randomBytes(12).toString('hex')}`);
  try {
    for await (const chunk of blob.body.lent()) {
      onBytes(chunk.length);
      await upload.append(chunk);
    }
    await upload.commit(name.digest, cachedAttrs(name));
  } catch (error) {
    await upload.drop();
    throw error;
  }
}

/** Writes a piece that came from the upstream; false if it is another one than came before. */
export async function writeHashed(partial: PartialBlob, piece: number, bytes: Uint8Array): Promise<boolean> {
  const { metainfo } = partial;
  const leaves = pieceLeaves(bytes);
  const hash = foldLeaves(leaves);
  if (!metainfo.knows(piece)) metainfo.addHash(piece, hash);
  else if (!metainfo.matches(piece, hash)) return false;
  await partial.writePiece(piece, bytes, leaves);
  return true;
}
