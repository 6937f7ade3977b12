/** A part of a virtual image's range: zeros, its own metadata, or bytes of the uncompressed layer. */
export interface ImagePart {
  readonly kind: 'meta' | 'layer' | 'zero';
  /** Where the part begins in the image. */
  readonly offset: number;
  /** Where it begins in the metadata or in the layer; 0 for zeros. */
  readonly source: number;
  readonly length: number;
}

/** Where each file's content lies in the image and in the layer, sorted by both. */
export interface Extents {
  readonly image: Float64Array;
  readonly layer: Float64Array;
  readonly length: Float64Array;
}

/**
 * What the bytes `[offset, offset + length)` of an image are made of, in order and without gaps.
 * @param metaBytes length of the metadata at the image's start
 */
export function partsOf(extents: Extents, metaBytes: number, offset: number, length: number): ImagePart[] {
  const parts: ImagePart[] = [];
  const end = offset + length;
  let at = offset;
  if (at < metaBytes && at < end) {
    const stop = Math.min(end, metaBytes);
    parts.push({ kind: 'meta', offset: at, source: at, length: stop - at });
    at = stop;
  }
  for (let index = extentAt(extents, at); at < end; index++) {
    const start = extents.image[index] ?? Number.POSITIVE_INFINITY;
    if (at < start) {
      const stop = Math.min(end, start);
      parts.push({ kind: 'zero', offset: at, source: 0, length: stop - at });
      at = stop;
      if (at >= end) break;
    }
    const stop = Math.min(end, start + extents.length[index]!);
    if (stop > at)
      parts.push({
        kind: 'layer',
        offset: at,
        source: extents.layer[index]! + at - start,
        length: stop - at,
      });
    at = Math.max(at, stop);
  }
  return parts;
}

/** The first extent that ends after `at`. */
function extentAt(extents: Extents, at: number): number {
  let low = 0;
  let high = extents.image.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (extents.image[middle]! + extents.length[middle]! <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}
