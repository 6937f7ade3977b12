import { gunzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { type Document, documentOf, OCI_CONFIG } from './documents.ts';
import type { LayerRecord } from './layer-job.ts';

/** Annotation of a layer of the TOC image: whose TOC it holds. */
export const LAYER_DIGEST_ANNOTATION = 'containerd.io/snapshot/stargz/layer.digest';

interface TocImage {
  readonly manifest: Document;
  readonly config: Document;
  readonly layers: readonly { readonly bytes: Buffer; readonly digest: Digest }[];
}

/**
 * The image that holds the TOCs of layers that do not: a layer for each, a tar with the TOC, in the order of their digests.
 * stargz-snapshotter looks for it under the image's name with `-esgztoc` behind its tag (its `docs/external-toc.md`).
 */
export function tocImageOf(records: readonly LayerRecord[]): TocImage {
  const byDigest = new Map<Digest, { bytes: Buffer; digest: Digest; diffId: Digest; of: Digest }>();
  for (const record of records) {
    if (record.kind !== 'converted' || record.externalToc === undefined) continue;
    const bytes = Buffer.from(record.externalToc, 'base64');
    const digest = digestOf(bytes);
    byDigest.set(digest, { bytes, digest, diffId: digestOf(gunzipSync(bytes)), of: record.digest });
  }
  const layers = [...byDigest.values()].sort((one, other) => (one.digest < other.digest ? -1 : 1));
  const rootfs = { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) };
  const config = documentOf({ architecture: '', os: '', config: {}, rootfs }, OCI_CONFIG);
  const manifest = documentOf(
    {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { mediaType: OCI_CONFIG, digest: config.digest, size: config.bytes.length },
      layers: layers.map((layer) => ({
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
        digest: layer.digest,
        size: layer.bytes.length,
        annotations: { [LAYER_DIGEST_ANNOTATION]: layer.of },
      })),
    },
    OCI_MANIFEST,
  );
  return { manifest, config, layers };
}
