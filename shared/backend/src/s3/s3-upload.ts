import { createHash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { backoffMs } from '@sepia/base/async/backoff';
import { Digester, digestAlgorithm } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { readElsewhere, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { BlobContent } from '../blob-backend.ts';
import { shortContent, wrongContent } from '../content-faults.ts';
import { ABORT_MS, FIRST_PART_MS, MAX_PART_MS } from '../deadlines.ts';
import { type Part, partsOf } from './core/part-plan.ts';
import { pagesOf } from './pages.ts';
import type { S3Store } from './s3-store.ts';

/** Parts of one blob on their way at once; as many are held in memory. */
const PARTS_AT_ONCE = 3;
/** Tries of one part, and the waits between them, in ms. */
const MAX_TRIES = 4;
/** Tries to complete an upload whose parts are said to be missing: within some 8 s, and 4 s more for each GiB. */
const COMPLETE_TRIES = 3;
const BYTES_PER_TRY = 2 ** 30;
/** Uploads of one blob that are looked at for the one to go on with. */
const MAX_COMPARED = 4;

interface SentPart extends CompletedPart {
  readonly sha256: Buffer;
}

/** An upload in parts that stands in the bucket. */
interface OpenUpload {
  readonly id: string;
  /** Checksums in base64 of the parts that are there, by number, with what the store calls them. */
  readonly parts: ReadonlyMap<number, { readonly sha256: string; readonly etag: string }>;
}

/**
 * Writes a blob in parts: goes on with an upload of it that somebody left, sends the parts that it lacks, and completes
 * it once all bytes that were read have the digest. What comes of the parts is checked part by part and as a whole.
 */
export class S3Upload {
  readonly #store: S3Store;
  readonly #key: string;
  readonly #content: BlobContent;
  readonly #partBytes: number;

  constructor(store: S3Store, key: string, content: BlobContent, partBytes: number) {
    this.#store = store;
    this.#key = key;
    this.#content = content;
    this.#partBytes = partBytes;
  }

  /**
   * @throws {CodedError} as `BlobBackend.putBlob`; `UPLOAD_UNKNOWN` when somebody else completed or ended the upload.
   * After silence and refusals it stays, to be gone on with.
   */
  async run(signal: AbortSignal): Promise<void> {
    const open = (await this.#left(signal)) ?? (await this.#create(signal));
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const sent: SentPart[] = [];
    try {
      await this.#send(open, sent, either);
    } catch (error) {
      stop.abort(error);
      if (isCoded(error, 'DISK_CORRUPT')) await this.#abort(open.id);
      throw error;
    }
    await this.#finish(open.id, sent, signal);
  }

  /**
   * Completes it. While another origin does the same, a store may have taken parts away that stood here (versitygw), until
   * it knows no such upload any more: nothing is asked of it but what it has. Only a store that goes on lacking parts
   * acknowledged what it does not have.
   */
  async #finish(id: string, sent: readonly SentPart[], signal: AbortSignal): Promise<void> {
    const { digest, sizeBytes } = this.#content;
    const maxTries = COMPLETE_TRIES + Math.floor(sizeBytes / BYTES_PER_TRY);
    for (let tries = 1; ; tries++) {
      try {
        await this.#complete(id, sent, signal);
        return;
      } catch (error) {
        if (!isCoded(error) || error.detail['s3'] !== 'InvalidPart') throw error;
        if (tries >= maxTries) {
          await this.#abort(id);
          throw new CodedError('UPSTREAM_LIES', {
            message: `${this.#store.place} acknowledged parts that it does not have`,
            detail: { digest, place: this.#store.place },
            cause: error,
          });
        }
        await this.#untilWhole(id, sent, signal);
      }
    }
  }

  /** Waits for the parts of an upload to be there, a while. @throws `UPLOAD_UNKNOWN` when somebody else completed it */
  async #untilWhole(id: string, sent: readonly SentPart[], signal: AbortSignal): Promise<void> {
    for (let looks = 1; looks <= MAX_TRIES; looks++) {
      await delay(backoffMs(looks, FIRST_PART_MS, MAX_PART_MS), signal);
      const parts = await this.#partsOf(id, signal);
      if (sent.every(({ PartNumber, ETag }) => parts.get(PartNumber!)?.etag === ETag)) return;
    }
  }

  /** Ends uploads of this blob that were left: it is there. What cannot be ended now is tidied later. */
  async endOthers(signal: AbortSignal): Promise<void> {
    try {
      for (const { id } of await this.#uploads(signal)) await this.#abort(id);
    } catch (error) {
      signal.throwIfAborted();
      throwIfBug(error);
    }
  }

  /** Reads all parts in turn, for the digest; those that are not there are sent, a few at once. */
  async #send({ id, parts }: OpenUpload, sent: SentPart[], signal: AbortSignal): Promise<void> {
    const { digest, sizeBytes } = this.#content;
    const digester = new Digester(digestAlgorithm(digest));
    const free: Buffer[] = [];
    const running = new Set<Promise<void>>();
    try {
      for (const part of partsOf(sizeBytes, this.#partBytes)) {
        while (running.size >= PARTS_AT_ONCE) await Promise.race(running);
        signal.throwIfAborted();
        const buffer = free.pop() ?? Buffer.allocUnsafeSlow(Math.min(this.#partBytes, sizeBytes));
        const bytes = await this.#read(part, buffer);
        digester.update(bytes);
        const sha256 = createHash('sha256').update(bytes).digest();
        const there = parts.get(part.number);
        if (there?.sha256 === sha256.toString('base64')) {
          sent.push({ ...numbered(part, sha256), ETag: there.etag });
          free.push(buffer);
          continue;
        }
        const work = this.#sendPart(id, part, bytes, sha256, signal).then((ETag) => {
          sent.push({ ...numbered(part, sha256), ETag });
          free.push(buffer);
          running.delete(work);
        });
        readElsewhere(work);
        running.add(work);
      }
      await Promise.all(running);
    } finally {
      await Promise.allSettled(running);
    }
    const found = digester.digest();
    if (found !== digest) throw wrongContent(digest, found);
  }

  async #read({ start, end }: Part, buffer: Buffer): Promise<Uint8Array> {
    const bytes = await this.#content.read(start, buffer.subarray(0, end - start));
    if (bytes.length < end - start) throw shortContent(this.#content, start + bytes.length);
    return bytes;
  }

  async #sendPart(
    id: string,
    part: Part,
    bytes: Uint8Array,
    sha256: Buffer,
    signal: AbortSignal,
  ): Promise<string> {
    const command = {
      ...{ Bucket: this.#store.bucket, Key: this.#key, UploadId: id, PartNumber: part.number },
      ...{ Body: bytes, ContentLength: bytes.length, ChecksumSHA256: sha256.toString('base64') },
    };
    for (let tries = 1; ; tries++) {
      try {
        const { ETag } = await this.#store.call(
          async (client, abortSignal) => await client.send(new UploadPartCommand(command), { abortSignal }),
          signal,
        );
        return ETag ?? '';
      } catch (error) {
        throwIfBug(error);
        const mayPass = isCoded(error, 'BACKEND_DOWN') || isCoded(error, 'UPSTREAM_LIMITED');
        if (!mayPass || tries >= MAX_TRIES) throw error;
        await delay(backoffMs(tries, FIRST_PART_MS, MAX_PART_MS), signal);
      }
    }
  }

  async #complete(id: string, sent: readonly SentPart[], signal: AbortSignal): Promise<void> {
    const parts = sent.toSorted((one, other) => one.PartNumber! - other.PartNumber!);
    const { ChecksumSHA256: told } = await this.#store.call(
      async (client, abortSignal) =>
        await client.send(
          new CompleteMultipartUploadCommand({
            Bucket: this.#store.bucket,
            Key: this.#key,
            UploadId: id,
            MultipartUpload: { Parts: parts.map(({ sha256: _sha256, ...part }) => part) },
          }),
          { abortSignal },
        ),
      signal,
    );
    const own = compositeOf(parts.map(({ sha256 }) => sha256));
    if (told?.includes('-') && told !== own)
      throw new CodedError('UPSTREAM_LIES', {
        message: `${this.#store.place} put other parts together than were sent`,
        detail: { digest: this.#content.digest, expected: own, found: told },
      });
  }

  async #create(signal: AbortSignal): Promise<OpenUpload> {
    const { UploadId } = await this.#store.call(
      async (client, abortSignal) =>
        await client.send(
          new CreateMultipartUploadCommand({
            Bucket: this.#store.bucket,
            Key: this.#key,
            ChecksumAlgorithm: 'SHA256',
          }),
          { abortSignal },
        ),
      signal,
    );
    if (UploadId === undefined)
      throw new CodedError('UPSTREAM_LIES', {
        message: `${this.#store.place} began an upload without an id`,
      });
    return { id: UploadId, parts: new Map() };
  }

  /**
   * The upload of this blob that stands there with the most parts, of the newest few. There are several where more than
   * one origin began. A store that does not tell has none.
   */
  async #left(signal: AbortSignal): Promise<OpenUpload | undefined> {
    let fullest: OpenUpload | undefined;
    try {
      const uploads = (await this.#uploads(signal)).sort((one, other) => other.beganMs - one.beganMs);
      for (const { id } of uploads.slice(0, MAX_COMPARED)) {
        const parts = await this.#partsOf(id, signal);
        if (fullest === undefined || parts.size > fullest.parts.size) fullest = { id, parts };
      }
    } catch (error) {
      if (!isCoded(error, 'UPSTREAM_DENIED') && !isCoded(error, 'UPLOAD_UNKNOWN')) throw error;
    }
    return fullest;
  }

  async #uploads(signal: AbortSignal): Promise<{ readonly id: string; readonly beganMs: number }[]> {
    const { bucket } = this.#store;
    const { Uploads = [] } = await this.#store.call(
      async (client, abortSignal) =>
        await client.send(new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: this.#key }), {
          abortSignal,
        }),
      signal,
    );
    return Uploads.flatMap(({ Key, UploadId, Initiated }) =>
      Key === this.#key && UploadId !== undefined
        ? [{ id: UploadId, beganMs: Initiated?.getTime() ?? 0 }]
        : [],
    );
  }

  async #partsOf(id: string, signal: AbortSignal): Promise<OpenUpload['parts']> {
    const found = new Map<number, { readonly sha256: string; readonly etag: string }>();
    const { bucket, place } = this.#store;
    const pages = pagesOf(
      async (marker: string | undefined) =>
        await this.#store.call(
          async (client, abortSignal) =>
            await client.send(
              new ListPartsCommand({
                Bucket: bucket,
                Key: this.#key,
                UploadId: id,
                PartNumberMarker: marker,
              }),
              { abortSignal },
            ),
          signal,
        ),
      (page) => (page.IsTruncated === true ? page.NextPartNumberMarker : undefined),
      (words) => new CodedError('UPSTREAM_LIES', { message: `${place} ${words}`, detail: { place } }),
    );
    for await (const page of pages) {
      for (const { PartNumber, ChecksumSHA256, ETag } of page.Parts ?? [])
        if (PartNumber !== undefined && ChecksumSHA256 !== undefined && ETag !== undefined)
          found.set(PartNumber, { sha256: ChecksumSHA256, etag: ETag });
    }
    return found;
  }

  /** What is left of it costs room, and is removed later where it cannot be now. */
  async #abort(id: string): Promise<void> {
    const command = { Bucket: this.#store.bucket, Key: this.#key, UploadId: id };
    await this.#store
      .call(
        async (client, abortSignal) =>
          await client.send(new AbortMultipartUploadCommand(command), { abortSignal }),
        AbortSignal.timeout(ABORT_MS),
      )
      .catch((error: unknown) => throwIfBug(error));
  }
}

function numbered({ number }: Part, sha256: Buffer) {
  return { PartNumber: number, ChecksumSHA256: sha256.toString('base64'), sha256 };
}

/** The checksum that S3 gives an object of parts. */
function compositeOf(parts: readonly Uint8Array[]): string {
  const whole = createHash('sha256');
  for (const one of parts) whole.update(one);
  return `${whole.digest('base64')}-${parts.length}`;
}

/** As {@link compositeOf}, of a blob that is not sent. @throws {CodedError} `DISK_CORRUPT` */
export async function compositeOfContent(content: BlobContent, partBytes: number): Promise<string> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(partBytes, content.sizeBytes));
  const digester = new Digester(digestAlgorithm(content.digest));
  const parts: Buffer[] = [];
  for (const { start, end } of partsOf(content.sizeBytes, partBytes)) {
    const bytes = await content.read(start, buffer.subarray(0, end - start));
    if (bytes.length < end - start) throw shortContent(content, start + bytes.length);
    digester.update(bytes);
    parts.push(createHash('sha256').update(bytes).digest());
  }
  const found = digester.digest();
  if (found !== content.digest) throw wrongContent(content.digest, found);
  return compositeOf(parts);
}
