import type { Digest } from '@sepia/base/digest';
import { tryParse } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import { readDocument } from '@sepia/lazy/convert/documents';

/** An image whose manifest passed. */
export interface PulledImage extends ResolvedName {
  readonly manifest: Digest;
  readonly config: Digest;
  readonly layers: readonly { readonly digest: Digest; readonly sizeBytes: number }[];
}

/** The images whose manifests passed lately, by the config that a client asks for next. The oldest go first. */
export class PulledImages {
  readonly #images: LatestMap<string, PulledImage>;

  constructor(limit = 1_000) {
    this.#images = new LatestMap(limit);
  }

  note(
    target: ResolvedName,
    manifest: { readonly digest: Digest; readonly bytes: Uint8Array; readonly mediaType: string },
  ): void {
    const parsed = tryParse(() => readDocument(manifest.bytes, manifest.mediaType));
    if (!parsed.ok || parsed.value.kind !== 'image') return;
    const { config, layers } = parsed.value;
    this.#images.set(keyOf(target, config.digest), {
      upstream: target.upstream,
      repository: target.repository,
      manifest: manifest.digest,
      config: config.digest,
      layers: layers.map(({ digest, sizeBytes }) => ({ digest, sizeBytes })),
    });
  }

  of(target: ResolvedName, config: Digest): PulledImage | undefined {
    return this.#images.get(keyOf(target, config));
  }
}

function keyOf(target: ResolvedName, config: Digest): string {
  return JSON.stringify([target.upstream, target.repository, config]);
}
