import { pipeline, type Readable, Transform } from 'node:stream';
import { isCoded } from '@sepia/base/errors';
import type { BlobSource, RegistryClient } from '../registry/registry-client.ts';
import type { Transfer, Transfers } from '../terminal/transfers.ts';
import type { ImageToPush, ManifestToPush } from './load-image.ts';

/**
 * Sends blobs, then manifests; the last manifest gets the tag, or, where that is an index that the registry refuses for want of
 * what is not here, the only image that is. @returns its digest
 */
export async function pushImage(
  client: RegistryClient,
  repository: string,
  tag: string,
  image: ImageToPush,
  transfers: Transfers,
): Promise<string> {
  for (const blob of image.blobs) {
    const transfer = transfers.start(blob.digest.slice(0, 19), blob.sizeBytes);
    const isNew = await client.pushBlob(repository, watched(blob, transfer));
    transfer.end(isNew ? undefined : 'was there already');
  }
  const push = async ({ bytes, mediaType }: ManifestToPush, reference: string): Promise<string> =>
    await client.pushManifest(repository, reference, bytes, mediaType);
  for (const manifest of image.manifests.slice(0, -1)) await push(manifest, manifest.digest);
  try {
    return await push(image.manifests.at(-1)!, tag);
  } catch (error) {
    if (image.alone === undefined || !isRefused(error)) throw error;
    return await push(image.alone, tag);
  }
}

/** Registries say in several ways that a part of an index is missing. */
function isRefused(error: unknown): boolean {
  const status = isCoded(error) ? error.detail['status'] : undefined;
  return status === 400 || status === 404;
}

/** The blob with its bytes counted as they are read. */
function watched(blob: BlobSource, transfer: Transfer): BlobSource {
  const open = (): Readable => {
    const counter = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        transfer.add(chunk.length);
        done(null, chunk);
      },
    });
    // A failure of either end destroys the other; the request sees it as the failure of its body.
    return pipeline(blob.open(), counter, () => undefined);
  };
  return { ...blob, open };
}
