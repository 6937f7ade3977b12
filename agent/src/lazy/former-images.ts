import { SingleFlight } from '@sepia/base/async/single-flight';
import type { Digest } from '@sepia/base/digest';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { isRepositoryName } from '@sepia/base/names/repository';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import { isManifestType, MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import type { BlobStore } from '@sepia/store/blob-store';
import { type PulledImage, PulledImages } from './core/pulled-images.ts';

const MAX_FORMER = 5_000;

interface Deps {
  readonly store: Pick<BlobStore, 'list' | 'stat' | 'open'>;
  readonly log: Logger;
}

/**
 * The images whose manifests this node has cached: a client that keeps a manifest from before this process began asks for
 * its config only. Read once, when one is first looked for.
 */
export class FormerImages {
  readonly #deps: Deps;
  readonly #reading = new SingleFlight<'', PulledImages>();
  #images: PulledImages | undefined;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** @throws what reading the cache throws: what nobody could look up must not pass for unknown */
  async of(target: ResolvedName, config: Digest, signal: AbortSignal): Promise<PulledImage | undefined> {
    this.#images ??= await this.#reading.share('', async () => await this.#read(), signal);
    return this.#images.of(target, config);
  }

  async #read(): Promise<PulledImages> {
    const images = new PulledImages(MAX_FORMER);
    const small: { digest: Digest; accessedMs: number }[] = [];
    for await (const { digest, sizeBytes, accessedMs } of this.#deps.store.list()) {
      if (sizeBytes <= MAX_MANIFEST_BYTES) small.push({ digest, accessedMs });
    }
    // What was used last is kept where there are too many.
    small.sort((one, other) => one.accessedMs - other.accessedMs);
    for (const { digest } of small) await this.#note(images, digest);
    return images;
  }

  async #note(images: PulledImages, digest: Digest): Promise<void> {
    const { store, log } = this.#deps;
    const mediaType = (await store.stat(digest))?.attrs.mediaType;
    if (mediaType === undefined || !isManifestType(mediaType)) return;
    await using handle = await store.open(digest);
    if (handle === undefined) return;
    try {
      const bytes = await handle.readAllVerified();
      for (const { upstream, repository } of handle.attrs.provenance)
        if (isRepositoryName(repository)) images.note({ upstream, repository }, { digest, bytes });
    } catch (error) {
      throwIfBug(error);
      // Whoever asks for the manifest again gets a whole one, and that one is noted.
      log.warn({ err: error, digest }, 'a cached manifest cannot be read');
    }
  }
}
