import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { MAX_BLOB_BYTES } from '@sepia/metainfo/metainfo';
import type { ByteRange } from '@sepia/oci/range';
import type { UploadFile } from '@sepia/store/upload-file';

/** Network chunks are gathered up to this many bytes, so that a write costs less than what it writes. */
const GATHER_BYTES = 256 * 1024;

interface AppendOptions {
  /** Most bytes of the upload. */
  readonly maxBytes?: number;
  /** Asked before the upload grows to so many bytes. */
  readonly reach?: (bytes: number) => Promise<void>;
  /** Which bytes of the upload the body says it is. */
  readonly range?: ByteRange | undefined;
}

/**
 * Appends a request's body to an upload, as fast as the disk takes it. What came before a cut is stored.
 * @throws {CodedError} `UPLOAD_INVALID` when the body is cut, `SIZE_MISMATCH` when it ends elsewhere than its range,
 * `REQUEST_TOO_LARGE`, `DISK_FULL`
 */
export async function appendBody(
  file: UploadFile,
  body: AsyncIterable<Uint8Array>,
  { maxBytes = MAX_BLOB_BYTES, reach, range }: AppendOptions = {},
): Promise<void> {
  let buffer: Buffer | undefined;
  /** A chunk that came alone so far: a small body is one, and is written as it came. */
  let lone: Uint8Array | undefined;
  let fill = 0;
  const gather = (chunk: Uint8Array): void => {
    if (fill === 0) lone = chunk;
    else {
      buffer ??= Buffer.allocUnsafe(GATHER_BYTES);
      if (lone !== undefined) buffer.set(lone, 0);
      lone = undefined;
      buffer.set(chunk, fill);
    }
    fill += chunk.length;
  };
  const flush = async (): Promise<void> => {
    if (fill > 0) await file.append(lone ?? buffer!.subarray(0, fill));
    lone = undefined;
    fill = 0;
  };
  const chunks = body[Symbol.asyncIterator]();
  for (;;) {
    const next = await chunks.next().catch((cause: unknown) => {
      throwIfBug(cause);
      return { done: true as const, value: undefined, cause };
    });
    if (next.done === true) {
      await flush();
      if (!('cause' in next)) {
        if (range !== undefined && file.offset !== range.end + 1) throw otherLength(file, range);
        return;
      }
      const detail = { offset: file.offset };
      throw new CodedError('UPLOAD_INVALID', { message: 'the body was cut', detail, cause: next.cause });
    }
    const chunk: Uint8Array = next.value;
    if (range !== undefined && file.offset + fill + chunk.length > range.end + 1) {
      await flush();
      throw otherLength(file, range);
    }
    if (file.offset + fill + chunk.length > maxBytes)
      throw new CodedError('REQUEST_TOO_LARGE', {
        message: `blob is larger than ${maxBytes} bytes (max-blob of the origins)`,
        detail: { maxBytes },
      });
    await reach?.(file.offset + fill + chunk.length);
    if (fill + chunk.length > GATHER_BYTES) await flush();
    if (chunk.length >= GATHER_BYTES) await file.append(chunk);
    else if (chunk.length > 0) gather(chunk);
  }
}

function otherLength({ offset }: UploadFile, { start, end }: ByteRange): CodedError {
  return new CodedError('SIZE_MISMATCH', {
    message: 'the body is not as long as its Content-Range',
    detail: { contentRange: `${start}-${end}`, offset },
  });
}
