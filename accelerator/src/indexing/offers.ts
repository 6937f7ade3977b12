import { LinkedAbort } from '@sepia/base/async/linked-abort';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, systemCode } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
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
import type { ReferrerEntry } from '@sepia/upstream/referrers/referrer-list';
import { OFFER_MS } from '../deadlines.ts';
import type { ImageLayer } from './images.ts';

/** Artifacts of one image that are looked at: proxies list them by digest, so none is known to be the newest. */
const MAX_ARTIFACTS = 4;
/** Bytes that an offer leaves free where its layer is kept: others write there too. */
const RESERVE_BYTES = 256 * 1024 * 1024;
/** They are looked for again after so many bytes. */
const LOOK_BYTES = 64 * 1024 * 1024;

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

  /** An offer does not fit its layer, or there is no room to see whether it does. */
  refused(error: unknown, layer: Digest): void {
    logFailure(this.#deps.log, error, 'an index that is offered is not taken', { layer });
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
  /** Free bytes of the disk that `scratch` is on. */
  readonly freeBytes: () => Promise<number>;
  readonly largeLayers: LargeLayers;
  readonly bounds?: WorkBounds | undefined;
  readonly limits: Pick<WorkLimits, 'came' | 'unpacked'>;
  readonly onProgress: (bytes: number) => void;
  /** Told why an offer is not taken. */
  readonly onRefused: (error: unknown) => void;
}

/**
 * Makes the index of a layer with the one that is offered: all of the layer is read, and its digest checked, as without an
 * offer; what is spared is finding places to begin at, most of the work. All of the layer is on the disk meanwhile, which is
 * no condition of an index: where there is no room, or the disk fails, the offer is none.
 * @returns undefined where it does not fit, or cannot be seen to @throws {CodedError} what the source throws
 */
export async function takeOffer(
  deps: TakeDeps,
  layer: ImageLayer,
  offer: Buffer,
  signal: AbortSignal,
): Promise<MadeIndex | undefined> {
  try {
    return await taken(deps, layer, offer, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof NotTaken)) throw error;
    deps.onRefused(error.cause);
    return undefined;
  }
}

/** As {@link takeOffer}. @throws {NotTaken} besides */
async function taken(
  deps: TakeDeps,
  layer: ImageLayer,
  offer: Buffer,
  signal: AbortSignal,
): Promise<MadeIndex> {
  await needRoom(deps, layer.sizeBytes);
  using claim = deps.largeLayers.claim(signal);
  await using packed = await onDisk(deps.scratch);
  // What a bad offer costs is not the image's work.
  const own = new WorkLimits(deps.bounds);
  let lookAt = LOOK_BYTES;
  await deps.source.blob(
    layer,
    async (chunk) => {
      own.came(chunk.length);
      await onDisk(async () => await packed.append(chunk));
      deps.onProgress(packed.sizeBytes / 2);
      if (packed.sizeBytes < lookAt) return;
      lookAt += LOOK_BYTES;
      await needRoom(deps, 0);
    },
    signal,
  );
  let unpacked = 0;
  const hears = {
    signal,
    onUnpacked: (bytes: number) => {
      unpacked += bytes;
      own.unpacked(bytes);
    },
    onLarge: async () => await claim.take(),
    onShare: (share: number) => deps.onProgress((packed.sizeBytes * (1 + share)) / 2),
  };
  const read = async (offset: number, length: number) =>
    await onDisk(async () => await packed.read(offset, length));
  let made: MadeIndex;
  try {
    made = await checkedIndex({ digest: layer.digest, sizeBytes: packed.sizeBytes, read }, offer, hears);
  } catch (error) {
    throw isCoded(error) ? new NotTaken(error) : error;
  }
  deps.limits.came(packed.sizeBytes);
  deps.limits.unpacked(unpacked);
  return made;
}

/** Its cause says why an offer is not taken. */
class NotTaken extends Error {
  constructor(cause: CodedError) {
    super('an index that is offered is not taken', { cause });
  }
}

async function needRoom({ freeBytes }: Pick<TakeDeps, 'freeBytes'>, bytes: number): Promise<void> {
  const free = await onDisk(freeBytes);
  if (free - bytes >= RESERVE_BYTES) return;
  const message = `the data folder has ${free} bytes free: too few to keep the layer while it is checked`;
  throw new NotTaken(new CodedError('DISK_FULL', { message }));
}

/** What the disk says against it is no failure of the source. */
async function onDisk<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throwIfBug(cause);
    const message = `the data folder cannot keep the layer while it is checked (${systemCode(cause) ?? 'no code'})`;
    throw new NotTaken(new CodedError('DISK_FAILED', { message, cause }));
  }
}
