import { curl, sha256Of } from './curl.ts';

export const REPOSITORY = 'bench/app';
const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

/** The address of a blob at a registry endpoint. */
export function blobUrl(endpoint: string, digest: string): string {
  return `${endpoint}/v2/${REPOSITORY}/blobs/${digest}`;
}

/** Gets the image's manifest, as every client does before it asks for blobs. */
export async function readManifest(endpoint: string, namespace?: string): Promise<void> {
  const args = ['--header', `Accept: ${ACCEPT}`];
  await curl(`${endpoint}/v2/${REPOSITORY}/manifests/v1`, {
    args,
    ...(namespace === undefined ? {} : { namespace }),
  });
}

/** @throws {Error} when an endpoint's bytes are not those of the digest */
export async function checkBytes(endpoint: string, digest: string, namespace?: string): Promise<void> {
  const found = `sha256:${await sha256Of(blobUrl(endpoint, digest), namespace)}`;
  if (found !== digest) throw new Error(`${endpoint} answered ${found} for ${digest}`);
}
