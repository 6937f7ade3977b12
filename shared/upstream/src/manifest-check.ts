import { type Digest, digestAlgorithm, digestOf, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { claimsToBeManifest, isManifestType, MAX_MANIFEST_BYTES, parseManifest } from '@sepia/oci/manifest';
import { isGenericType, mediaTypeIn } from '@sepia/oci/media-type';
import { codingOf, decodedBytes } from './content-coding.ts';
import { type Answer, header } from './exchange.ts';
import type { ManifestQuery, UpstreamManifest } from './queries.ts';

/**
 * What a fetched manifest is. Its bytes must match the digest asked for, or by tag the one announced; by tag
 * they must also be a manifest of some kind, since nothing else vouches for them. Its type is what it or the
 * upstream says, to the letter, known or not.
 * @throws {CodedError} `UPSTREAM_LIES`
 */
export function checkManifest(
  upstream: string,
  { reference, repository }: ManifestQuery,
  answer: Answer,
  bytes: Buffer,
): Omit<UpstreamManifest, 'headers'> {
  const claimed = header(answer, 'docker-content-digest') ?? '';
  const digest =
    reference.kind === 'digest' ? reference.digest : isDigest(claimed) ? claimed : digestOf(bytes);
  checkBytes(upstream, bytes, digest);
  const said = mediaTypeIn(header(answer, 'content-type'));
  try {
    const { mediaType, isGuessed } = parseManifest(bytes, manifestTypeIn(said));
    const isBetter = isGuessed && said !== undefined && !isGenericType(said);
    return { bytes, digest, mediaType: isBetter ? said : mediaType };
  } catch (cause) {
    throwIfBug(cause);
    if (reference.kind === 'digest' || claimsToBeManifest(bytes))
      return { bytes, digest, mediaType: said ?? 'application/octet-stream' };
    throw new CodedError('UPSTREAM_LIES', {
      message: `${answer.url.host} sent no manifest: ${(cause as Error).message}`,
      detail: { upstream, repository, reference: reference.tag, contentType: said ?? null },
      cause,
    });
  }
}

/**
 * The manifest in a body that is encoded though nobody asked for it: as it came if those bytes have the digest that is known, else
 * decoded.
 */
export async function manifestBytes(
  { reference }: ManifestQuery,
  answer: Answer,
  sent: Buffer,
): Promise<Buffer> {
  if (codingOf(answer) === undefined) return sent;
  const claimed = header(answer, 'docker-content-digest') ?? '';
  const known = reference.kind === 'digest' ? reference.digest : isDigest(claimed) ? claimed : undefined;
  if (known !== undefined && digestOf(sent, digestAlgorithm(known)) === known) return sent;
  return await decodedBytes(answer, sent, MAX_MANIFEST_BYTES);
}

/** Types of old registries that differ in case are told apart by nobody. */
function manifestTypeIn(said: string | undefined): string | undefined {
  const type = said?.toLowerCase();
  return type !== undefined && isManifestType(type) ? type : undefined;
}

/** @throws {CodedError} `UPSTREAM_LIES` unless `bytes` have the digest */
function checkBytes(upstream: string, bytes: Uint8Array, expected: Digest): void {
  const found = digestOf(bytes, digestAlgorithm(expected));
  if (found !== expected) throw new CodedError('UPSTREAM_LIES', { detail: { upstream, expected, found } });
}

/** Checks the digest that a HEAD announces. @throws {CodedError} `UPSTREAM_LIES` when another one was asked for */
export function checkDigest(upstream: string, { reference }: ManifestQuery, found: Digest): void {
  if (reference.kind === 'tag' || reference.digest === found) return;
  if (digestAlgorithm(found) !== digestAlgorithm(reference.digest)) return;
  throw new CodedError('UPSTREAM_LIES', { detail: { upstream, expected: reference.digest, found } });
}
