import { Readable } from 'node:stream';
import { type Digest, digestOf } from '@sepia/base/digest';
import type { InternalResponse } from '@sepia/http/client';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';

/** Bytes, and what they are called. */
export interface Content {
  readonly bytes: Buffer;
  readonly digest: Digest;
}

/** Content and its tree. */
export interface Truth extends Content {
  readonly hashes: readonly Uint8Array[];
}

export function truthOf(bytes: Buffer): Truth {
  const hashes: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += PIECE_BYTES)
    hashes.push(pieceHash(bytes.subarray(at, at + PIECE_BYTES)));
  return { bytes, digest: digestOf(bytes), hashes };
}

/** A stream as the body of an answer. */
export function bodyOf(stream: Readable): InternalResponse['body'] {
  return Object.assign(stream, {
    dump: async () => void stream.resume(),
  }) as unknown as InternalResponse['body'];
}

/** Lets time pass, or ends with the signal. */
export async function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  if (ms === 0) return;
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        reject(signal.reason);
      },
      { once: true },
    );
  });
}

/** An answer's body of these chunks. */
export function sent(chunks: readonly Buffer[]): InternalResponse['body'] {
  return bodyOf(Readable.from(chunks, { objectMode: true }));
}

/** An answer of JSON. */
export function json(value: unknown): InternalResponse {
  return { status: 200, headers: {}, body: sent([Buffer.from(JSON.stringify(value))]) };
}
