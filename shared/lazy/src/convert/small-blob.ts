import { CodedError } from '@sepia/base/errors';
import type { RawDescriptor } from './documents.ts';
import type { ImageSource } from './ends.ts';

/** A blob of at most `maxBytes`, whole. @throws {CodedError} `MANIFEST_TOO_LARGE`, what the source throws */
export async function smallBlob(
  source: Pick<ImageSource, 'blob'>,
  blob: RawDescriptor,
  maxBytes: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  if (blob.sizeBytes > maxBytes)
    throw new CodedError('MANIFEST_TOO_LARGE', {
      message: `${blob.digest} is longer than ${maxBytes} bytes`,
    });
  const chunks: Buffer[] = [];
  await source.blob(blob, async (chunk) => void chunks.push(Buffer.from(chunk)), signal);
  return Buffer.concat(chunks);
}
