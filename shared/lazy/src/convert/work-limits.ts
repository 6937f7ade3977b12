import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { RawDescriptor } from './documents.ts';

/** What one conversion takes on at most; an image beyond is left as it is. */
export interface WorkBounds {
  /** Indexes within indexes. */
  readonly depth: number;
  /** Manifests and indexes, each as often as those that are looked at name it. */
  readonly documents: number;
  /** Layers of one image. */
  readonly layersOfImage: number;
  /** Different layers of all of its images. */
  readonly layers: number;
  /** Uncompressed bytes of small images; of others {@link mostUncompressed}. */
  readonly unpackedBytes: number;
}

/** What one conversion may cost at most, whatever the image says of itself. */
export const WORK_BOUNDS: WorkBounds = {
  depth: 4,
  documents: 2_000,
  // Linux stacks no more (OVL_MAX_STACK).
  layersOfImage: 500,
  layers: 2_000,
  unpackedBytes: 16 * 1024 ** 3,
};
/** Longer ones may be so many times their compressed length: real ones are 2 to 20 times, made of zeros 1,000 times. */
const MOST_RATIO = 200;

/** How long what has this compressed length may be: a small blob must not fill a disk. */
export function mostUncompressed(compressedBytes: number, { unpackedBytes } = WORK_BOUNDS): number {
  return Math.max(unpackedBytes, compressedBytes * MOST_RATIO);
}

/**
 * Counts what one conversion takes on: an image of a few megabytes, or an index that names itself again and again below, may
 * ask for work without end. In the end every count is the same in every run, so that what is refused is refused always.
 * All @throw {CodedError} `MANIFEST_SYNTAX` that says how much would be too much
 */
export class WorkLimits {
  readonly #bounds: WorkBounds;
  readonly #layers = new Set<Digest>();
  #documents = 0;
  #compressedBytes = 0;
  #unpackedBytes = 0;

  constructor(bounds: WorkBounds = WORK_BOUNDS) {
    this.#bounds = bounds;
  }

  /** One more manifest or index, so deep below the first. */
  document(depth: number): void {
    const { depth: deepest, documents } = this.#bounds;
    if (depth > deepest) throw tooMuch(`indexes are nested deeper than ${deepest}`);
    this.#documents += 1;
    if (this.#documents > documents) throw tooMuch(`it names more than ${documents} manifests`);
  }

  /** The layers of one more image. */
  image(layers: readonly RawDescriptor[]): void {
    const { layersOfImage, layers: most } = this.#bounds;
    if (layers.length > layersOfImage)
      throw tooMuch(
        `an image of it has ${layers.length} layers; no system stacks more than ${layersOfImage}`,
      );
    for (const { digest } of layers) this.#layers.add(digest);
    if (this.#layers.size > most) throw tooMuch(`its images have more than ${most} different layers`);
  }

  /** Bytes of layers that were read to be unpacked. What a manifest says of their length is known to be true at their end only. */
  came(bytes: number): void {
    this.#compressedBytes += bytes;
  }

  /** Bytes of layers that were unpacked, or written where a sparse file has none. */
  unpacked(bytes: number): void {
    this.#unpackedBytes += bytes;
    const most = mostUncompressed(this.#compressedBytes, this.#bounds);
    if (this.#unpackedBytes > most)
      throw tooMuch(`${this.#compressedBytes} bytes of its layers are more than ${most} uncompressed`);
  }

  /** A layer that was converted before. Its result counts for it: nobody reads it again to know how long it is. */
  convertedBefore(result: { readonly sizeBytes: number; readonly uncompressedBytes: number }): void {
    this.came(result.sizeBytes);
    this.unpacked(result.uncompressedBytes);
  }
}

function tooMuch(message: string): CodedError {
  return new CodedError('MANIFEST_SYNTAX', { message });
}
