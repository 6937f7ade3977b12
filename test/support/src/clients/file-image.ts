import { gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import { byteStringOf } from '@sepia/lazy/tar/byte-string';
import { EMPTY_HEADER, encodeHeader, zerosAfter } from '@sepia/lazy/tar/encode-header';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { pushBlob, pushManifest } from './registry-calls.ts';

/** An image of one layer with one file, `file`, and what its manifest says. */
export interface FileImage {
  readonly blobs: readonly Buffer[];
  readonly manifest: object;
}

/** Makes one; `more` are further fields of its manifest. */
export function fileImage(content: string | Uint8Array, more: object = {}): FileImage {
  const payload = Buffer.from(content);
  const header = encodeHeader({
    ...EMPTY_HEADER,
    name: byteStringOf('file'),
    mode: 0o644,
    size: payload.length,
  });
  const tar = Buffer.concat([header, payload, zerosAfter(payload.length), Buffer.alloc(1024)]);
  const layer = gzipSync(tar);
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: [digestOf(tar)] },
    }),
  );
  const part = (bytes: Buffer, mediaType: string): object => ({
    mediaType,
    digest: digestOf(bytes),
    size: bytes.length,
  });
  const manifest = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: part(config, 'application/vnd.oci.image.config.v1+json'),
    layers: [part(layer, 'application/vnd.oci.image.layer.v1.tar+gzip')],
    ...more,
  };
  return { blobs: [layer, config], manifest };
}

/** Pushes one. @returns the digest of its manifest */
export async function pushFileImage(
  url: string,
  repository: string,
  tag: string,
  { blobs, manifest }: FileImage,
): Promise<Digest> {
  for (const bytes of blobs) await pushBlob(url, repository, bytes);
  return await pushManifest(url, repository, manifest, tag);
}
