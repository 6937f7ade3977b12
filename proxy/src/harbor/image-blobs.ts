import { askInTurn } from '@sepia/base/async/ask-many';
import { type Digest, digestAlgorithm, digestOf, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { H_STALE, H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { isDefinite } from '@sepia/cluster/core/answers';
import { readLimited } from '@sepia/http/client';
import { isIndexType, isKnownType, MAX_MANIFEST_BYTES, parseServedManifest } from '@sepia/oci/manifest';
import { type Reference, referenceText } from '@sepia/oci/route';
import { whileAlive } from '../bodies/blob-source.ts';
import { headerOf, type Origins } from '../cluster/origins.ts';
import { MANIFEST_MS } from '../deadlines.ts';
import type { ImageName } from './core/image-url.ts';

const MAX_DEPTH = 4;
const MAX_MANIFESTS = 500;

/** An image down to its blobs. */
export interface ImageBlobs {
  /** What the tag names. */
  readonly top: Digest;
  /** Size in bytes by digest. */
  readonly blobs: ReadonlyMap<Digest, number>;
  /** Of `blobs`: what an index names by no type that is known, and that may be an image that the registry does not have. */
  readonly doubtful: ReadonlySet<Digest>;
  /** Children of an index that the registry does not have: it may hold only the platforms that were pulled. */
  readonly absent: readonly Digest[];
}

/**
 * Reads the manifests of an image through the origins, which keep them; a tag is asked for upstream now. Children of
 * an index are walked whatever type it claims to be.
 * @throws what the upstream says; `BACKEND_DOWN` when it does not confirm the tag
 */
export async function readImage(
  origins: Origins,
  image: ImageName,
  authorization: string | undefined,
  signal: AbortSignal,
): Promise<ImageBlobs> {
  const blobs = new Map<Digest, number>();
  const doubtful = new Set<Digest>();
  const absent: Digest[] = [];
  const seen = new Set<Digest>();
  const visit = async (reference: Reference, depth: number): Promise<Digest> => {
    if (seen.size >= MAX_MANIFESTS || depth > MAX_DEPTH)
      throw new CodedError('MANIFEST_SYNTAX', { message: 'the index has too many or too deep children' });
    const { digest, bytes, mediaType } = await readOne(
      origins,
      { ...image, reference },
      authorization,
      signal,
    );
    if (seen.has(digest)) return digest;
    seen.add(digest);
    const parsed = parseServedManifest(bytes, mediaType);
    for (const one of parsed.descriptors)
      if (one.kind !== 'child' && !one.foreign) blobs.set(one.digest, one.sizeBytes);
    if (!isIndexType(parsed.mediaType)) return digest;
    const children = new Map(
      parsed.descriptors.filter(({ kind }) => kind === 'child').map((one) => [one.digest, one]),
    );
    let found = 0;
    for (const child of children.values()) {
      try {
        await visit({ kind: 'digest', digest: child.digest }, depth + 1);
        found += 1;
      } catch (error) {
        if (!isCoded(error, 'MANIFEST_UNKNOWN')) throw error;
        if (isKnownType(child.mediaType)) absent.push(child.digest);
        else {
          // An index may name blobs by types that nobody knows.
          blobs.set(child.digest, child.sizeBytes);
          doubtful.add(child.digest);
          found += 1;
        }
      }
    }
    if (children.size > 0 && found === 0) throw noneOf();
    return digest;
  };
  const top = await visit(image.reference, 1);
  return { top, blobs, doubtful, absent };
}

/** Why an index is not brought of which the registry has nothing. */
export function noneOf(): CodedError {
  return new CodedError('MANIFEST_UNKNOWN', {
    message: 'the registry has none of the images that the index names',
  });
}

async function readOne(
  origins: Origins,
  image: ImageName,
  authorization: string | undefined,
  signal: AbortSignal,
): Promise<{ digest: Digest; bytes: Buffer; mediaType: string }> {
  const text = referenceText(image.reference);
  const call = to(ORIGIN_NAMES.manifest, { ...image, reference: text, fresh: true });
  const order = origins.tries(shardKey(image.upstream, image.repository));
  const ask = async (id: string): Promise<{ digest: Digest; bytes: Buffer; mediaType: string }> => {
    const answer = await whileAlive(origins, id, signal, (running) =>
      origins.call(id, {
        ...call,
        headers: authorization === undefined ? {} : { [H_UPSTREAM_AUTHORIZATION]: authorization },
        headersTimeoutMs: MANIFEST_MS,
        signal: running,
      }),
    );
    const bytes = await readLimited(answer.body, MAX_MANIFEST_BYTES, id);
    if (headerOf(answer, H_STALE) !== undefined)
      throw new CodedError('BACKEND_DOWN', { message: `the registry does not confirm ${text} at present` });
    const digest = headerOf(answer, 'docker-content-digest') ?? '';
    if (!isDigest(digest) || digestOf(bytes, digestAlgorithm(digest)) !== digest)
      throw new CodedError('PEER_HTTP', { message: `origin ${id} sent a manifest that is not its digest` });
    return { digest, bytes, mediaType: headerOf(answer, 'content-type') ?? '' };
  };
  const isFinal = (error: unknown): boolean =>
    isDefinite(error) || isCoded(error, 'BACKEND_DOWN') || isCoded(error, 'UPSTREAM_LIMITED');
  return await askInTurn(order, ask, { signal, isFinal });
}
