import { type Digest, Digester, digestAlgorithm, digestOf, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import { MANIFEST_ACCEPT, MAX_MANIFEST_BYTES, parseServedManifest } from '@sepia/oci/manifest';
import { BLOB_MS, BODY_MS } from '../deadlines.ts';
import { type Proxies, upstreamHeader } from './proxies.ts';

/** Requests in a row that brought no byte until a blob is given up. */
const MAX_FRUITLESS = 4;

interface Repository {
  readonly upstream: string;
  readonly repository: string;
}

/** A repository as the cluster serves it; everything is checked against its digest. */
export function clusterSource(proxies: Proxies, { upstream, repository }: Repository): ImageSource {
  const headers = upstreamHeader(upstream);
  return {
    manifest: async (reference, signal) => {
      const { bytes, headers: answered } = await proxies.bytes(
        {
          method: 'GET',
          path: `/v2/${repository}/manifests/${reference}`,
          headers: { ...headers, accept: MANIFEST_ACCEPT },
          headersTimeoutMs: BLOB_MS,
          ...(signal === undefined ? {} : { signal }),
        },
        MAX_MANIFEST_BYTES,
      );
      const type = String(answered['content-type'] ?? '')
        .split(';')[0]
        ?.trim();
      const digest = isDigest(reference) ? digestOf(bytes, digestAlgorithm(reference)) : digestOf(bytes);
      if (isDigest(reference) && digest !== reference)
        throw new CodedError('DIGEST_MISMATCH', { detail: { expected: reference, found: digest } });
      return { bytes, digest, mediaType: parseServedManifest(bytes, type).mediaType };
    },
    blob: async (blob, take, signal) => await readBlob(proxies, { upstream, repository }, blob, take, signal),
    has: async (digest, signal) => await hasBlob(proxies, { upstream, repository }, digest, signal),
  };
}

/** Whether a blob is served as one of this repository. @throws {CodedError} what else the cluster says */
async function hasBlob(
  proxies: Proxies,
  { upstream, repository }: Repository,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    const answer = await proxies.call({
      method: 'HEAD',
      path: `/v2/${repository}/blobs/${digest}`,
      headers: upstreamHeader(upstream),
      headersTimeoutMs: BLOB_MS,
      ...(signal === undefined ? {} : { signal }),
    });
    await answer.body.dump();
    return true;
  } catch (error) {
    if (isCoded(error, 'BLOB_UNKNOWN')) return false;
    throw error;
  }
}

/** Reads a blob to its end; a cut body goes on by Range as long as bytes come. */
async function readBlob(
  proxies: Proxies,
  { upstream, repository }: Repository,
  blob: { readonly digest: Digest; readonly sizeBytes: number },
  take: (chunk: Uint8Array) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const digester = new Digester(digestAlgorithm(blob.digest));
  let offset = 0;
  let fruitless = 0;
  while (offset < blob.sizeBytes) {
    const before = offset;
    const call = {
      method: 'GET' as const,
      path: `/v2/${repository}/blobs/${blob.digest}`,
      headers: { ...upstreamHeader(upstream), ...(offset === 0 ? {} : { range: `bytes=${offset}-` }) },
      headersTimeoutMs: BLOB_MS,
      bodyTimeoutMs: BODY_MS,
      ...(signal === undefined ? {} : { signal }),
    };
    let answer: Awaited<ReturnType<Proxies['call']>>;
    try {
      answer = await proxies.call(call);
    } catch (error) {
      if (!isCoded(error, 'RANGE_INVALID')) throw error;
      // There is nothing behind what came: the manifest says more than there is.
      throw new CodedError('SIZE_MISMATCH', {
        message: `blob ${blob.digest} has ${offset} bytes, the manifest says ${blob.sizeBytes}`,
        cause: error,
      });
    }
    let skip = answer.status === 206 ? 0 : offset;
    const iterator = (answer.body as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await nextChunk(iterator, signal);
        if (next === undefined) break;
        const chunk = next.subarray(Math.min(skip, next.length));
        skip -= next.length - chunk.length;
        offset += chunk.length;
        if (offset > blob.sizeBytes)
          throw new CodedError('SIZE_MISMATCH', {
            message: `blob ${blob.digest} is longer than the ${blob.sizeBytes} bytes that the manifest says`,
          });
        digester.update(chunk);
        await take(chunk);
      }
    } finally {
      // Where nobody wants the rest, it must not be sent.
      await iterator.return?.();
    }
    fruitless = offset > before ? 0 : fruitless + 1;
    if (fruitless >= MAX_FRUITLESS)
      throw new CodedError('NO_PEERS', {
        message: `blob ${blob.digest} ends at ${offset} bytes again and again`,
      });
  }
  const found = digester.digest();
  if (found !== blob.digest)
    throw new CodedError('DIGEST_MISMATCH', { detail: { expected: blob.digest, found } });
}

/** Undefined at the end of a body, whether it is whole or cut: the size tells. */
async function nextChunk(
  iterator: AsyncIterator<Buffer>,
  signal: AbortSignal | undefined,
): Promise<Buffer | undefined> {
  try {
    const { value, done } = await iterator.next();
    return done === true ? undefined : (value as Buffer);
  } catch (error) {
    throwIfBug(error);
    signal?.throwIfAborted();
    if (isCoded(error)) throw error;
    return undefined;
  }
}
