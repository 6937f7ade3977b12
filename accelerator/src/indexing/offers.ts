import { LinkedAbort } from '@sepia/base/async/linked-abort';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { MAX_INDEX_BYTES } from '@sepia/cluster/api/layer-binding';
import { INDEX_ARTIFACT, indexesIn } from '@sepia/lazy/artifact/index-artifact';
import type { RawDescriptor } from '@sepia/lazy/convert/documents';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import type { LargeLayers } from '@sepia/lazy/convert/large-layers';
import type { MakeScratch } from '@sepia/lazy/convert/scratch';
import { type WorkBounds, WorkLimits } from '@sepia/lazy/convert/work-limits';
import { checkedIndex } from '@sepia/lazy/index/check-index';
import type { MadeIndex } from '@sepia/lazy/index/layer-indexer';
import type { ReferrerEntry } from '@sepia/upstream/referrer-list';
import { OFFER_MS } from '../deadlines.ts';
import type { ImageLayer } from './images.ts';

/** Artifacts of one image that are looked at: proxies list them by digest, so none is known to be the newest. */
const MAX_ARTIFACTS = 4;

interface OfferDeps {
  readonly source: ImageSource;
  /** What names a digest as its subject; of other artifact types too, or not. */
  readonly referrers: (digest: Digest, signal: AbortSignal) => Promise<readonly ReferrerEntry[]>;
  readonly log: Logger;
}

/** Indexes that somebody pushed as referrers of images: nothing in them is believed, see {@link takeOffer}. */
export class Offers {
  readonly #deps: OfferDeps;
  readonly #known = new Map<Digest, ReadonlyMap<Digest, RawDescriptor>>();

  readonly #limitMs: number;

  constructor(deps: OfferDeps, options: { readonly limitMs?: number } = {}) {
    this.#deps = deps;
    this.#limitMs = options.limitMs ?? OFFER_MS;
  }

  /** The index of a layer of this image that is offered. What cannot be read is none: it is made then. */
  async of(image: Digest, layer: Digest, signal: AbortSignal): Promise<Buffer | undefined> {
    signal.throwIfAborted();
    const late = new CodedError('TIMEOUT', { message: 'it does not come' });
    const over = new LinkedAbort(signal);
    const timer = setTimeout(() => over.abort(late), this.#limitMs);
    try {
      const place = (this.#known.get(image) ?? (await this.#listed(image, over.signal))).get(layer);
      return place === undefined ? undefined : await this.#read(place, over.signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!isCoded(error)) throw error;
      logFailure(this.#deps.log, error, 'an index that is offered cannot be read', { image, layer });
      return undefined;
    } finally {
      clearTimeout(timer);
      over.unlink();
    }
  }

  /** An offer did not fit its layer. */
  refused(error: unknown, layer: Digest): void {
    logFailure(this.#deps.log, error, 'an index that is offered is not taken: it does not fit', { layer });
  }

  async #listed(image: Digest, signal: AbortSignal): Promise<ReadonlyMap<Digest, RawDescriptor>> {
    const { source, referrers } = this.#deps;
    const found = new Map<Digest, RawDescriptor>();
    // Whatever comes of it, it is asked for once.
    this.#known.set(image, found);
    const artifacts = (await referrers(image, signal)).filter((one) => one.artifactType === INDEX_ARTIFACT);
    for (const { digest } of artifacts.slice(-MAX_ARTIFACTS))
      for (const [layer, place] of indexesIn(await source.manifest(digest, signal))) found.set(layer, place);
    return found;
  }

  async #read(place: RawDescriptor, signal: AbortSignal): Promise<Buffer> {
    if (place.sizeBytes > MAX_INDEX_BYTES)
      throw new CodedError('INDEX_INVALID', { message: `it would have ${place.sizeBytes} bytes` });
    const chunks: Buffer[] = [];
    await this.#deps.source.blob(place, async (chunk) => void chunks.push(Buffer.from(chunk)), signal);
    return Buffer.concat(chunks);
  }
}

interface TakeDeps {
  readonly source: ImageSource;
  readonly scratch: MakeScratch;
  readonly largeLayers: LargeLayers;
  readonly bounds?: WorkBounds | undefined;
  readonly limits: Pick<WorkLimits, 'came' | 'unpacked'>;
  readonly onProgress: (bytes: number) => void;
  /** Told why an offer is not taken. */
  readonly onRefused: (error: unknown) => void;
}

/**
 * Makes the index of a layer with the one that is offered: all of the layer is read, and its digest checked, as without an
 * offer; what is spared is finding places to begin at, most of the work. @returns undefined where it does not fit
 * @throws {CodedError} what the source throws
 */
export async function takeOffer(
  deps: TakeDeps,
  layer: ImageLayer,
  offer: Buffer,
  signal: AbortSignal,
): Promise<MadeIndex | undefined> {
  using claim = deps.largeLayers.claim(signal);
  await using packed = await deps.scratch();
  // What a bad offer costs is not the image's work.
  const own = new WorkLimits(deps.bounds);
  let unpacked = 0;
  const onUnpacked = (bytes: number): void => {
    signal.throwIfAborted();
    unpacked += bytes;
    own.unpacked(bytes);
  };
  await deps.source.blob(
    layer,
    async (chunk) => {
      own.came(chunk.length);
      await packed.append(chunk);
      deps.onProgress(packed.sizeBytes);
    },
    signal,
  );
  const read = async (offset: number, length: number) => await packed.read(offset, length);
  let made: MadeIndex;
  try {
    const blob = { digest: layer.digest, sizeBytes: packed.sizeBytes, read };
    made = await checkedIndex(blob, offer, { onUnpacked, onLarge: async () => await claim.take() });
  } catch (error) {
    signal.throwIfAborted();
    if (!isCoded(error)) throw error;
    deps.onRefused(error);
    return undefined;
  }
  deps.limits.came(packed.sizeBytes);
  deps.limits.unpacked(unpacked);
  return made;
}
