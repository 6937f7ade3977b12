import type { Stretch } from './footer.ts';

/** Prefixes under which layers say where their TOC is: containers/storage's, and stargz-snapshotter's. */
const PREFIXES = ['io.github.containers.zstd-chunked.', 'io.containers.zstd-chunked.'] as const;
const CHECKSUM = 'manifest-checksum';
const POSITION = 'manifest-position';
const TAR_SPLIT_POSITION = `${PREFIXES[0]}tarsplit-position`;
const TOC_TYPE = 1;

/** What the annotations of a zstd:chunked layer say. */
export interface ZstdAnnotations {
  /** `sha256:…` of the compressed TOC: the root of trust of a partial pull. */
  readonly tocChecksum: string;
  readonly toc?: Stretch;
  readonly tarSplit?: Stretch;
}

/** True for an annotation of a layer that says something of its TOC. */
export function isZstdAnnotation(key: string): boolean {
  return PREFIXES.some((prefix) => key.startsWith(prefix));
}

/** Both sets of annotations of a layer. */
export function zstdAnnotations(
  tocChecksum: string,
  toc: Stretch,
  tarSplit: Stretch,
): Readonly<Record<string, string>> {
  const entries = PREFIXES.flatMap((prefix) => [
    [`${prefix}${CHECKSUM}`, tocChecksum],
    [`${prefix}${POSITION}`, `${text(toc)}:${TOC_TYPE}`],
  ]);
  return Object.fromEntries([...entries, [TAR_SPLIT_POSITION, text(tarSplit)]]);
}

/**
 * What a layer's annotations say of its TOC; undefined for another kind of layer.
 * @returns a text where the two sets differ, or one is not understood
 */
export function parseZstdAnnotations(
  annotations: Readonly<Record<string, string>>,
): ZstdAnnotations | string | undefined {
  const sums = PREFIXES.flatMap((prefix) => annotations[`${prefix}${CHECKSUM}`] ?? []);
  const [tocChecksum] = sums;
  if (tocChecksum === undefined) return undefined;
  if (sums.some((one) => one !== tocChecksum)) return 'its annotations have two checksums of the TOC';
  const places = PREFIXES.flatMap((prefix) => annotations[`${prefix}${POSITION}`] ?? []);
  if (places.some((one) => one !== places[0])) return 'its annotations have two positions of the TOC';
  const tocNumbers = numbers(places[0], 4);
  const splitNumbers = numbers(annotations[TAR_SPLIT_POSITION], 3);
  if (tocNumbers === 'wrong' || (tocNumbers !== undefined && tocNumbers[3] !== TOC_TYPE))
    return 'the annotated position of the TOC is not like 4096:100:200:1';
  if (splitNumbers === 'wrong') return 'the annotated position of the tar-split is not like 4096:100:200';
  return {
    tocChecksum,
    ...(tocNumbers === undefined ? {} : { toc: stretch(tocNumbers) }),
    ...(splitNumbers === undefined ? {} : { tarSplit: stretch(splitNumbers) }),
  };
}

function text({ offset, sizeBytes, rawBytes }: Stretch): string {
  return `${offset}:${sizeBytes}:${rawBytes}`;
}

function numbers(value: string | undefined, count: number): readonly number[] | 'wrong' | undefined {
  if (value === undefined) return undefined;
  const found = value.split(':').map((one) => (/^\d{1,16}$/.test(one) ? Number(one) : Number.NaN));
  return found.length === count && found.every(Number.isSafeInteger) ? found : 'wrong';
}

function stretch([offset = 0, sizeBytes = 0, rawBytes = 0]: readonly number[]): Stretch {
  return { offset, sizeBytes, rawBytes };
}
