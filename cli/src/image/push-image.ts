import { pipeline, type Readable, Transform } from 'node:stream';
import type { BlobSource, RegistryClient } from '../registry/registry-client.ts';
import type { Transfer, Transfers } from '../terminal/transfers.ts';
import type { ImageToPush } from './load-image.ts';

/** Sends blobs, then manifests; the last manifest gets the tag. @returns its digest */
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
  let digest = '';
  for (const [index, manifest] of image.manifests.entries()) {
    const reference = index === image.manifests.length - 1 ? tag : manifest.digest;
    digest = await client.pushManifest(repository, reference, manifest.bytes, manifest.mediaType);
  }
  return digest;
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
