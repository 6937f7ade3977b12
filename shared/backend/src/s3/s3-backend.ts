import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { backoffMs } from '@sepia/base/async/backoff';
import { type Digest, digestAlgorithm, digestHex, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { blobOf } from '@sepia/upstream/blob-body';
import type { BlobQuery, BlobWish, UpstreamBlob } from '@sepia/upstream/queries';
import type { BackendEntry, BlobBackend, BlobContent } from '../blob-backend.ts';
import { requireAlone, shortContent, wrongContent } from '../content-faults.ts';
import { FIRST_LOOK_MS, MAX_LOOK_MS } from '../deadlines.ts';
import { likeness, partBytesOf, type StatedChecksum } from './core/part-plan.ts';
import type { S3Keys } from './core/s3-keys.ts';
import { pagesOf } from './pages.ts';
import { PEER } from './s3-sender.ts';
import type { S3Store } from './s3-store.ts';
import { compositeOfContent, S3Upload } from './s3-upload.ts';

export interface S3BackendOptions {
  /** Name of the upstream, for errors. */
  readonly upstream: string;
  /** Least size of the parts of a large blob; a blob of one part goes in one call. S3 wants 5 MiB or more. */
  readonly partBytes?: number;
}

/** Where a listing of uploads goes on. */
interface UploadMarker {
  readonly KeyMarker: string | undefined;
  readonly UploadIdMarker: string | undefined;
}

/** Looks for what was written just now, and the waits between them, in ms. */
const MAX_LOOKS = 4;
/** Three of them are in memory for each blob that is written. */
const PART_BYTES = 8 * 1024 * 1024;

/** Blobs as objects of a bucket. */
export class S3Backend implements BlobBackend {
  readonly kind = 's3';
  readonly #store: S3Store;
  readonly #keys: S3Keys;
  readonly #options: Required<S3BackendOptions>;

  constructor(deps: { readonly store: S3Store; readonly keys: S3Keys }, options: S3BackendOptions) {
    this.#store = deps.store;
    this.#keys = deps.keys;
    this.#options = { partBytes: PART_BYTES, ...options };
  }

  get place(): string {
    return this.#store.place;
  }

  async headBlob(
    { digest }: BlobQuery,
    signal: AbortSignal,
  ): Promise<{ readonly sizeBytes: number | undefined }> {
    const { sizeBytes } = await this.#stated(digest, signal);
    return { sizeBytes };
  }

  async getBlob(wish: BlobWish, signal: AbortSignal): Promise<UpstreamBlob> {
    const { digest, range } = wish;
    const command = {
      ...this.#object(digest),
      ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end ?? ''}` }),
    };
    const { Body } = await this.#store.object(
      async (client, abortSignal) => await client.send(new GetObjectCommand(command), { abortSignal }),
      signal,
    );
    const answer = this.#store.sender.answerOf(Body as object);
    // An object's bytes are the blob, whatever who wrote it called their encoding.
    const { 'content-encoding': _encoding, ...headers } = answer.headers;
    return blobOf({ ...answer, headers }, wish, this.#options.upstream, signal, PEER);
  }

  async claim(owner: string, signal: AbortSignal): Promise<void> {
    const { marks } = this.#keys;
    let owners = await this.#owners(signal);
    if (owners.length === 0) {
      const mark = { Bucket: this.#store.bucket, Key: `${marks}${owner}`, Body: Buffer.from(`${owner}\n`) };
      await this.#store.call(
        async (client, abortSignal) => await client.send(new PutObjectCommand(mark), { abortSignal }),
        signal,
      );
      owners = await this.#owners(signal);
    }
    requireAlone({ place: this.place, marks }, owners, owner);
    if (owners.length === 0) throw this.#lies(`says that it wrote ${marks}${owner}, and does not list it`);
  }

  async requireFree(owner: string, signal: AbortSignal): Promise<void> {
    requireAlone({ place: this.place, marks: this.#keys.marks }, await this.#owners(signal), owner);
  }

  async putBlob(content: BlobContent, signal: AbortSignal, isWrong = false): Promise<'written' | 'there'> {
    const partBytes = partBytesOf(content.sizeBytes, this.#options.partBytes);
    const isWhole = content.sizeBytes <= partBytes;
    const upload = new S3Upload(this.#store, this.#keys.keyOf(content.digest), content, partBytes);
    if (!isWrong && (await this.#holds(content, signal))) {
      // One begun here in vain may stand beside what another origin completed meanwhile.
      if (!isWhole) await upload.endOthers(signal);
      return 'there';
    }
    if (isWhole) {
      await this.#putWhole(content, signal);
    } else {
      try {
        await upload.run(signal);
      } catch (error) {
        // Another origin completed it, or somebody ended it.
        if (!isCoded(error, 'UPLOAD_UNKNOWN')) throw error;
        // What is wrong looks right to the store, too: whoever asks again reads it first.
        if (!isWrong && (await this.#holds(content, signal))) return 'there';
        throw this.#down('an upload was ended by somebody else; it is begun anew', error);
      }
      // Another origin that completes its own upload may be putting the same in its place at this moment.
      for (let looks = 1; !(await this.#holds(content, signal, true)); looks++) {
        if (looks >= MAX_LOOKS)
          throw this.#lies(`says that it wrote ${content.digest}, and does not have it`);
        await delay(backoffMs(looks, FIRST_LOOK_MS, MAX_LOOK_MS), signal);
      }
      await upload.endOthers(signal);
    }
    return 'written';
  }

  async deleteBlob({ digest }: Pick<BlobQuery, 'digest'>, signal: AbortSignal): Promise<void> {
    await this.#store.call(
      async (client, abortSignal) =>
        await client.send(new DeleteObjectCommand(this.#object(digest)), { abortSignal }),
      signal,
    );
  }

  async *listBlobs(after: Digest | undefined, signal: AbortSignal): AsyncGenerator<BackendEntry, void, void> {
    const pages = pagesOf(
      async (token: string | undefined) =>
        await this.#store.call(
          async (client, abortSignal) =>
            await client.send(
              new ListObjectsV2Command({
                Bucket: this.#store.bucket,
                Prefix: this.#keys.root,
                ...(after === undefined ? {} : { StartAfter: this.#keys.keyOf(after) }),
                ...(token === undefined ? {} : { ContinuationToken: token }),
              }),
              { abortSignal },
            ),
          signal,
        ),
      (page) => (page.IsTruncated === true ? page.NextContinuationToken : undefined),
      (words) => this.#lies(words),
    );
    for await (const page of pages) {
      for (const { Key, Size, LastModified } of page.Contents ?? []) {
        const digest = this.#keys.digestOf(Key ?? '');
        if (digest !== undefined)
          yield { digest, sizeBytes: Size ?? 0, writtenMs: LastModified?.getTime() ?? Date.now() };
      }
    }
  }

  async tidy(beforeMs: number, signal: AbortSignal): Promise<number> {
    const { bucket } = this.#store;
    let count = 0;
    const pages = pagesOf(
      async (from: UploadMarker | undefined) =>
        await this.#store.call(
          async (client, abortSignal) =>
            await client.send(
              new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: this.#keys.root, ...from }),
              { abortSignal },
            ),
          signal,
        ),
      ({ IsTruncated, NextKeyMarker, NextUploadIdMarker }): UploadMarker | undefined =>
        IsTruncated === true ? { KeyMarker: NextKeyMarker, UploadIdMarker: NextUploadIdMarker } : undefined,
      (words) => this.#lies(words),
    );
    for await (const page of pages) {
      for (const { Key = '', UploadId, Initiated } of page.Uploads ?? []) {
        const isOld = Initiated !== undefined && Initiated.getTime() < beforeMs;
        if (!isOld || this.#keys.digestOf(Key) === undefined) continue;
        await this.#store.call(
          async (client, abortSignal) =>
            await client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId }), {
              abortSignal,
            }),
          signal,
        );
        count += 1;
      }
    }
    return count;
  }

  async close(): Promise<void> {
    await this.#store.close();
  }

  /** Two are enough to tell whether there is another. */
  async #owners(signal: AbortSignal): Promise<string[]> {
    const { marks } = this.#keys;
    const wish = { Bucket: this.#store.bucket, Prefix: marks, MaxKeys: 2 };
    const { Contents = [] } = await this.#store.call(
      async (client, abortSignal) => await client.send(new ListObjectsV2Command(wish), { abortSignal }),
      signal,
    );
    return Contents.map(({ Key = '' }) => Key.slice(marks.length));
  }

  /** In one call, whose checksum is the digest: the store itself checks it. */
  async #putWhole(content: BlobContent, signal: AbortSignal): Promise<void> {
    const { digest, sizeBytes } = content;
    const bytes = await content.read(0, Buffer.allocUnsafeSlow(sizeBytes));
    if (bytes.length < sizeBytes) throw shortContent(content, bytes.length);
    const found = digestOf(bytes, digestAlgorithm(digest));
    if (found !== digest) throw wrongContent(digest, found);
    const sha256 = base64Of(digestOf(bytes));
    const command = {
      ...this.#object(digest),
      Body: bytes,
      ContentLength: sizeBytes,
      ChecksumSHA256: sha256,
    };
    const { ChecksumSHA256: told } = await this.#store.call(
      async (client, abortSignal) => await client.send(new PutObjectCommand(command), { abortSignal }),
      signal,
    );
    if (told !== undefined && told !== sha256)
      throw this.#lies(`wrote other bytes than were sent for ${digest}`);
  }

  /**
   * Whether the blob is there, as far as the store tells: by its checksum, else by its size. An object that is another is
   * written over. `isOwn`: it was sent just now, and its parts are known to be right.
   */
  async #holds(content: BlobContent, signal: AbortSignal, isOwn = false): Promise<boolean> {
    let found: StatedChecksum;
    try {
      found = await this.#stated(content.digest, signal);
    } catch (error) {
      if (isCoded(error, 'BLOB_UNKNOWN')) return false;
      throw error;
    }
    const { digest, sizeBytes } = content;
    const partBytes = partBytesOf(sizeBytes, this.#options.partBytes);
    const parts = Math.ceil(sizeBytes / partBytes);
    const sha256 = digestAlgorithm(digest) === 'sha256' ? base64Of(digest) : undefined;
    const like = likeness(found, { sizeBytes, sha256, parts });
    if (like !== 'compare' || isOwn) return like !== 'unlike';
    return (await compositeOfContent(content, partBytes)) === found.sha256;
  }

  async #stated(digest: Digest, signal: AbortSignal): Promise<StatedChecksum> {
    const command = { ...this.#object(digest), ChecksumMode: 'ENABLED' } as const;
    const { ContentLength, ChecksumSHA256 } = await this.#store.object(
      async (client, abortSignal) => await client.send(new HeadObjectCommand(command), { abortSignal }),
      signal,
    );
    return { sizeBytes: ContentLength, sha256: ChecksumSHA256 };
  }

  #object(digest: Digest): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.#store.bucket, Key: this.#keys.keyOf(digest) };
  }

  #lies(words: string): CodedError {
    return new CodedError('UPSTREAM_LIES', {
      message: `${this.place} ${words}`,
      detail: { place: this.place },
    });
  }

  #down(words: string, cause: unknown): CodedError {
    return new CodedError('BACKEND_DOWN', {
      message: `${this.place}: ${words}`,
      detail: { place: this.place },
      cause,
    });
  }
}

function base64Of(digest: Digest): string {
  return Buffer.from(digestHex(digest), 'hex').toString('base64');
}
