import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { SingleFlight } from '@sepia/base/async/single-flight';
import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { isRepositoryName } from '@sepia/base/names/repository';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import { isManifestType, MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import type { BlobStore } from '@sepia/store/blob-store';
import { type PulledImage, PulledImages } from './core/pulled-images.ts';

const MAX_FORMER = 5_000;
/** Read at once: a cache may have 100,000 small blobs. */
const READS = 8;

interface Deps {
  readonly store: Pick<BlobStore, 'list' | 'stat' | 'open'>;
  readonly log: Logger;
}

/**
 * The images whose manifests this node has cached: a client that keeps a manifest from before this process began asks for
 * its config only. Read once, from when a snapshotter comes: no pull is to wait for it.
 */
export class FormerImages {
  readonly #deps: Deps;
  readonly #reading = new SingleFlight<'', PulledImages>();
  #images: PulledImages | undefined;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Reads them behind, unless that was done or is under way. */
  begin(): void {
    if (this.#images !== undefined || this.#reading.has('')) return;
    this.#read().catch((error: unknown) =>
      logFailure(this.#deps.log, error, 'cached manifests were not looked through'),
    );
  }

  /** @throws what reading the cache throws: what nobody could look up must not pass for unknown */
  async of(target: ResolvedName, config: Digest, signal: AbortSignal): Promise<PulledImage | undefined> {
    const images = this.#images ?? (await this.#read(signal));
    return images.of(target, config);
  }

  /** Goes on when whoever waited has left: who comes next finds it done. */
  async #read(signal?: AbortSignal): Promise<PulledImages> {
    const look = async (): Promise<PulledImages> => {
      this.#images = await this.#lookThrough();
      return this.#images;
    };
    return await this.#reading.share('', look, signal);
  }

  async #lookThrough(): Promise<PulledImages> {
    const images = new PulledImages(MAX_FORMER);
    const small = await this.#small();
    // What was used last is kept where there are too many.
    small.sort((one, other) => one.accessedMs - other.accessedMs);
    await fewAtOnce(small, READS, async ({ digest }) => await this.#note(images, digest));
    return images;
  }

  async #small(): Promise<{ digest: Digest; accessedMs: number }[]> {
    const { store, log } = this.#deps;
    const small: { digest: Digest; accessedMs: number }[] = [];
    try {
      for await (const { digest, sizeBytes, accessedMs } of store.list()) {
        if (sizeBytes <= MAX_MANIFEST_BYTES) small.push({ digest, accessedMs });
      }
    } catch (error) {
      // A disk that fails keeps nobody from a pull: what it does not read is as what was never cached.
      if (!isCoded(error, 'DISK_CORRUPT')) throw error;
      log.error({ err: error }, 'the disk does not list the cache: its images may pass unjudged');
    }
    return small;
  }

  async #note(images: PulledImages, digest: Digest): Promise<void> {
    const { store, log } = this.#deps;
    const mediaType = (await store.stat(digest))?.attrs.mediaType;
    if (mediaType === undefined || !isManifestType(mediaType)) return;
    await using handle = await store.open(digest, { isLook: true });
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
