import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '@sepia/base/digest';
import type { FakeUpstream } from './fake-upstream.ts';

interface Descriptor {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Puts an image of an OCI layout (as `make-image.sh` writes it) into a fake upstream; returns its largest blob. */
export function loadLayout(
  upstream: FakeUpstream,
  layout: string,
  tag: string,
  repository: string,
): { digest: Digest; sizeBytes: number } {
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
  const named = index.manifests.find((one) => one.annotations?.['org.opencontainers.image.ref.name'] === tag);
  if (named === undefined) throw new Error(`no ${tag} in ${layout}`);
  const folder = join(layout, 'blobs', 'sha256');
  const bytesOf = (digest: string): Buffer => readFileSync(join(folder, digest.slice('sha256:'.length)));
  const manifest = { digest: named.digest, mediaType: named.mediaType, bytes: bytesOf(named.digest) };
  upstream.addManifest(repository, manifest, tag);
  let largest = { digest: named.digest, sizeBytes: 0 };
  for (const name of readdirSync(folder)) {
    const bytes = readFileSync(join(folder, name));
    const digest = upstream.addBlob(repository, bytes);
    if (bytes.length > largest.sizeBytes) largest = { digest, sizeBytes: bytes.length };
  }
  return largest;
}
