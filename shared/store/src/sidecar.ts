import { type Digest, isDigest } from '@sepia/base/digest';
import { MAX_BLOB_BYTES } from '@sepia/metainfo/metainfo';
import { HASH_BYTES, pieceCount } from '@sepia/metainfo/tree';
import { corrupt, seal, unseal } from './sealed.ts';

const MAGIC = 'SPS1';

/** Repositories named beside a blob; further ones are only in the records. */
export const MAX_PROVENANCE = 256;

/** A repository under which a blob came here, and its upstream. */
export interface Provenance {
  readonly upstream: string;
  readonly repository: string;
}

/** What is known of a blob beside its bytes, kept in the sidecar file next to it. */
export interface BlobAttrs {
  /** `pushed`: acknowledged to a pusher; `cached`: can be fetched again. */
  readonly class: 'pushed' | 'cached';
  readonly provenance: readonly Provenance[];
  /** True once the upstream has a pushed blob. */
  readonly writtenBack: boolean;
  readonly mediaType?: string;
}

/** The file under `meta/`: all that cannot be read from the blob itself cheaply. */
export interface Sidecar {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Piece layer: 32 bytes a piece. */
  readonly layer: Uint8Array;
  readonly attrs: BlobAttrs;
}

/** The bytes of a sidecar file, as `decodeSidecar` reads them. */
export function encodeSidecar(sidecar: Sidecar): Uint8Array {
  const { digest, sizeBytes, layer, attrs } = sidecar;
  return seal(MAGIC, { header: { v: 1, digest, sizeBytes, ...attrs }, body: layer });
}

/** Reads {@link encodeSidecar}; header keys it does not know are ignored. @throws `DISK_CORRUPT` and nothing else */
export function decodeSidecar(bytes: Uint8Array): Sidecar {
  const { header, body } = unseal(MAGIC, bytes);
  const { digest, sizeBytes } = header;
  if (typeof digest !== 'string' || !isDigest(digest)) throw corrupt('digest');
  if (!isSize(sizeBytes)) throw corrupt('size');
  if (body.length !== pieceCount(sizeBytes) * HASH_BYTES) throw corrupt('layer');
  return { digest, sizeBytes, layer: body.slice(), attrs: parseAttrs(header) };
}

/** True for a size that a blob can have. */
export function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= MAX_BLOB_BYTES;
}

/**
 * What holds when a blob that is there (`before`) arrives again: pushed wins over cached; a blob counts as written
 * back only if no push of it still waits; provenance is the union, capped.
 */
export function mergeAttrs(before: BlobAttrs, now: BlobAttrs): BlobAttrs {
  const pushes = [before, now].filter((one) => one.class === 'pushed');
  const mediaType = now.mediaType ?? before.mediaType;
  return {
    class: pushes.length > 0 ? 'pushed' : 'cached',
    provenance: now.provenance.reduce(withProvenance, before.provenance),
    writtenBack: (pushes.length > 0 ? pushes : [before, now]).every((one) => one.writtenBack),
    ...(mediaType === undefined ? {} : { mediaType }),
  };
}

/** Adds one origin of a blob; the same list if it is there, or the list is full and names the upstream already. */
export function withProvenance(list: readonly Provenance[], one: Provenance): readonly Provenance[] {
  const known = list.some(
    ({ upstream, repository }) => upstream === one.upstream && repository === one.repository,
  );
  const isFull = list.length >= MAX_PROVENANCE;
  if (known || (isFull && list.some(({ upstream }) => upstream === one.upstream))) return list;
  // That bytes came from an upstream is worth more than one repository more of another.
  const kept = isFull ? withoutOne(list) : list;
  return [...kept, { upstream: one.upstream, repository: one.repository }];
}

/** A full list without the last entry of the upstream that has the most. */
function withoutOne(list: readonly Provenance[]): readonly Provenance[] {
  const counts = new Map<string, number>();
  for (const { upstream } of list) counts.set(upstream, (counts.get(upstream) ?? 0) + 1);
  const [most] = [...counts].reduce((best, one) => (one[1] > best[1] ? one : best));
  const at = list.findLastIndex(({ upstream }) => upstream === most);
  return list.toSpliced(at, 1);
}

function parseAttrs(header: Readonly<Record<string, unknown>>): BlobAttrs {
  const { class: kind, provenance, writtenBack, mediaType } = header;
  if (kind !== 'pushed' && kind !== 'cached') throw corrupt('class');
  if (typeof writtenBack !== 'boolean') throw corrupt('written-back');
  if (!Array.isArray(provenance) || !provenance.every(isProvenance)) throw corrupt('provenance');
  return {
    class: kind,
    writtenBack,
    provenance,
    ...(typeof mediaType === 'string' ? { mediaType } : {}),
  };
}

function isProvenance(value: unknown): value is Provenance {
  const one = value as Partial<Provenance> | null;
  return (
    typeof one === 'object' &&
    one !== null &&
    typeof one.upstream === 'string' &&
    typeof one.repository === 'string'
  );
}
