import { type Digest, Digester, digestAlgorithm } from '@sepia/base/digest';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { BlobQuery, BlobWish, UpstreamBlob } from '@sepia/upstream/queries';
import { shortContent } from './content-faults.ts';

const CHUNK_BYTES = 256 * 1024;

/** Where blobs are read from. Bytes are not checked against the digest: whoever puts them together does that. */
export interface BlobSource {
  /** Size of a blob, where it is told. @throws {CodedError} `BLOB_UNKNOWN` where there is none, and as {@link BlobBackend} */
  headBlob(query: BlobQuery, signal: AbortSignal): Promise<{ readonly sizeBytes: number | undefined }>;
  /** The bytes of a blob or a part of them. @throws {CodedError} as {@link BlobSource.headBlob}, `RANGE_INVALID` */
  getBlob(wish: BlobWish, signal: AbortSignal): Promise<UpstreamBlob>;
}

/** A blob to be written: its bytes can be read again, in any order. */
export interface BlobContent {
  /** Who reads it back asks by this too; a backend knows blobs by digest alone. */
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Fills `into` from byte `at`; returns the part of it that was filled, shorter only at the end of the blob. */
  read(at: number, into: Uint8Array): Promise<Uint8Array>;
}

/** A blob as a listing tells of it. */
export interface BackendEntry {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** When it was written, by the backend's clock, in ms. */
  readonly writtenMs: number;
}

/**
 * A place that keeps blobs for good: a bucket, a mounted folder. A blob is there whole or not at all, for all
 * who look, whoever is killed while writing it. All methods may run at once, here and at other members; writers of one
 * digest do not harm each other.
 *
 * Each takes the caller's deadline as `signal` and throws its reason when it is aborted. Other failures are coded:
 * `BLOB_UNKNOWN` it is not there; `UPSTREAM_DENIED` it refuses, and will again until somebody changes something;
 * `UPSTREAM_LIMITED` it asks for patience (`detail.retryAfterSeconds`); `BACKEND_DOWN` it does not answer, was cut off, or
 * failed; `UPSTREAM_LIES` what it says cannot be true. A bug is thrown as it is.
 */
export interface BlobBackend extends BlobSource {
  readonly kind: 's3' | 'fs';
  /** Where it is, for people: a host, a bucket, a folder. */
  readonly place: string;
  /**
   * Marks the place as this cluster's, which writes and collects there alone; `owner`: its name, for a file or key.
   * @throws `UPSTREAM_DENIED` that names the mark where it is another cluster's: what one counts on the other collects
   */
  claim(owner: string, signal: AbortSignal): Promise<void>;
  /** Looks whose the place is and writes nothing: one that nobody has marked is anybody's. @throws as {@link claim} */
  requireFree(owner: string, signal: AbortSignal): Promise<void>;
  /**
   * Writes a blob, or finds that it is there already; durable there when it resolves. What an earlier writer that was
   * killed or cut off left is gone on with where the backend can. @throws also `DISK_CORRUPT` when what was read is not
   * the blob (nothing is left there), `DISK_FULL`. `isWrong`: what is there was read and is not the blob, so it is
   * written over
   */
  putBlob(content: BlobContent, signal: AbortSignal, isWrong?: boolean): Promise<'written' | 'there'>;
  /** A blob that is not there is fine. When it was cut off or aborted, the blob may go yet. */
  deleteBlob(query: Pick<BlobQuery, 'digest'>, signal: AbortSignal): Promise<void>;
  /** All blobs in order of their digests, from behind `after`. */
  listBlobs(after: Digest | undefined, signal: AbortSignal): AsyncGenerator<BackendEntry, void, void>;
  /** Removes what writers left half that were gone by `beforeMs` (its clock); returns how many. */
  tidy(beforeMs: number, signal: AbortSignal): Promise<number>;
  close(): Promise<void>;
}

/** Reads `content` in chunks; each is lent until the next one is asked for. */
export async function* chunksOf(content: BlobContent): AsyncGenerator<Uint8Array, void, void> {
  const buffers = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)] as const;
  for (let at = 0, turn = 0; at < content.sizeBytes; turn = 1 - turn) {
    const length = Math.min(CHUNK_BYTES, content.sizeBytes - at);
    const chunk = await content.read(at, buffers[turn === 0 ? 0 : 1].subarray(0, length));
    if (chunk.length < length) throw shortContent(content, at + chunk.length);
    at += length;
    yield chunk;
  }
}

/** Whether what is there is the blob: reads all of it. @throws {CodedError} as `BlobSource.getBlob` */
export async function isBlob(
  source: BlobSource,
  { repository, digest, sizeBytes }: BlobContent,
  signal: AbortSignal,
): Promise<boolean> {
  const { body } = await source.getBlob({ repository, digest, sizeBytes }, signal);
  const digester = new Digester(digestAlgorithm(digest));
  let readBytes = 0;
  for await (const chunk of body) {
    readBytes += chunk.length;
    if (readBytes > sizeBytes) return false;
    digester.update(chunk);
  }
  return digester.digest() === digest;
}
