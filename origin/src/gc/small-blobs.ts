import type { BlobName } from '@sepia/base/names/blob-name';
import { MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Blobs } from '../blobs/blobs.ts';
import { GC_READ_MS } from '../deadlines/members.ts';
import type { Links } from '../records/links.ts';
import type { BlobReader } from '../replication/blob-reader.ts';

interface SmallBlobsDeps {
  readonly store: Pick<BlobStore, 'stat'>;
  readonly blobs: Pick<Blobs, 'sizeElsewhere'>;
  readonly links: Pick<Links, 'find'>;
  readonly reader: Pick<BlobReader, 'open'>;
}

/** Reads blobs that may be manifests by their size; undefined of others. A link need not say a size: who has the blob does. */
export function smallBlobs({ store, blobs, links, reader }: SmallBlobsDeps) {
  return async (name: BlobName): Promise<Uint8Array | undefined> => {
    const link = await links.find(name);
    if (link === undefined) return undefined;
    const own = link.sizeBytes ?? (await store.stat(name.digest))?.sizeBytes;
    const end = own ?? (await blobs.sizeElsewhere(name)) ?? 0;
    // There is no range of nothing.
    if (end === 0 || end > MAX_MANIFEST_BYTES) return undefined;
    const parts: Uint8Array[] = [];
    const late = AbortSignal.timeout(GC_READ_MS);
    for await (const part of reader.open(name, { start: 0, end }, async () => undefined, late))
      parts.push(part as Uint8Array);
    return Buffer.concat(parts);
  };
}
