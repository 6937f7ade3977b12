import type { Digest } from '@sepia/base/digest';
import { throwIfBug } from '@sepia/base/failure';
import { isKnownType, type ParsedManifest, parseServedManifest } from '@sepia/oci/manifest';
import type { GcNames } from './mark.ts';

const DIGESTS = /sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}/g;

/**
 * What a manifest names. Of one whose fields have no meaning here every digest in its text counts, since it may name by any
 * of them what its readers need.
 */
export function namesOf(bytes: Uint8Array, mediaType: string): GcNames {
  const parsed = isKnownType(mediaType) ? parsedOf(bytes, mediaType) : undefined;
  if (parsed === undefined) return { blobs: [], manifests: digestsIn(bytes) };
  const blobs: Digest[] = [];
  const manifests: Digest[] = [];
  for (const { kind, digest } of parsed.descriptors) (kind === 'child' ? manifests : blobs).push(digest);
  return { blobs, manifests };
}

function parsedOf(bytes: Uint8Array, mediaType: string): ParsedManifest | undefined {
  try {
    return parseServedManifest(bytes, mediaType);
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}

function digestsIn(bytes: Uint8Array): Set<Digest> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
  return new Set([...text.matchAll(DIGESTS)].map(([digest]) => digest as Digest));
}
