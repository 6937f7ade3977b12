import { type Digest, digestAlgorithm, digestHex, isDigest } from '@sepia/base/digest';
import { parseObject } from '@sepia/base/json/lossless-json';
import { isTag, type Tag } from '@sepia/base/names/repository';
import { OCI_INDEX, withAnnotations } from '@sepia/oci/manifest';

/** Answers of registries without a referrers API; another refusal than a 401 says the same. */
export const NO_REFERRERS_API = [400, 404, 405, 406, 410, 415, 422, 501];

/** A manifest that refers to another, as lists of referrers describe it (image-spec, "Descriptor"). `size` in bytes. */
export interface ReferrerEntry {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/**
 * The descriptors of an image index that lists referrers; it is known by any one of `manifests`, `schemaVersion` and
 * `mediaType`. Undefined for other JSON, which registries without the referrers API answer with. Entries that are not
 * descriptors are left out.
 */
export function referrersOf(bytes: Uint8Array): ReferrerEntry[] | undefined {
  const value = parseObject(bytes);
  if (value === undefined) return undefined;
  const isIndex = value['schemaVersion'] === 2 || value['mediaType'] === OCI_INDEX;
  const manifests = value['manifests'] ?? (isIndex ? [] : undefined);
  return Array.isArray(manifests) ? manifests.flatMap((one: unknown) => entryOf(one) ?? []) : undefined;
}

/** The tag of the referrers tag schema (distribution-spec, "Referrers Tag Schema"). */
export function referrersTag(digest: Digest): Tag {
  const tag = `${digestAlgorithm(digest).slice(0, 32)}-${digestHex(digest).slice(0, 64)}`;
  if (!isTag(tag)) throw new TypeError(tag);
  return tag;
}

function entryOf(value: unknown): ReferrerEntry | undefined {
  const { mediaType, digest, size, artifactType, annotations } = (value ?? {}) as Record<string, unknown>;
  if (typeof digest !== 'string' || !isDigest(digest) || !Number.isSafeInteger(size)) return undefined;
  return {
    mediaType: typeof mediaType === 'string' ? mediaType : 'application/octet-stream',
    digest,
    size: size as number,
    ...(typeof artifactType === 'string' ? { artifactType } : {}),
    ...withAnnotations(annotations),
  };
}
