import { Readable } from 'node:stream';
import { type Digest, digestOf } from '@sepia/base/digest';
import type { LayerBinding } from '@sepia/cluster/api/layer-binding';
import { EMPTY_CONFIG, indexArtifact, type LayerIndexPlace } from '@sepia/lazy/artifact/index-artifact';
import type { Document } from '@sepia/lazy/convert/documents';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import type { ReferrerEntry } from '@sepia/upstream/referrers/referrer-list';
import { putReferrer, referrerOf } from '../net/put-referrer.ts';
import { registryTarget } from '../net/registry-target.ts';
import type { ResultRegistry } from '../net/result-registries.ts';
import type { Image } from './images.ts';
import { nydusKindOf } from './index-nydus.ts';

/** Records of layers by their digests. */
type Bindings = ReadonlyMap<Digest, LayerBinding>;
type KeptIndex = LayerIndexPlace & Pick<LayerBinding, 'home'>;

interface PublishDeps {
  readonly registry: ResultRegistry;
  readonly repository: string;
  /** A repository as the cluster serves it: indexes are read where they are kept. */
  readonly sourceAt: (home: LayerBinding['home']) => ImageSource;
  /** What names a digest as its subject. */
  readonly referrers: (digest: Digest, signal: AbortSignal) => Promise<readonly ReferrerEntry[]>;
}

/** Indexes of an image's layers, and where each is kept; none of Nydus images: they are read by their bootstrap. */
function placesOf(image: Image, bindings: Bindings): readonly KeptIndex[] {
  if (nydusKindOf(image) !== undefined) return [];
  return image.layers.flatMap(({ digest }) => {
    const { index, indexBytes, diffId, kind, bad, home } = bindings.get(digest) ?? {};
    if (home === undefined || index === undefined || indexBytes === undefined || diffId === undefined)
      return [];
    const isGood = kind === undefined && bad?.index !== index;
    return isGood ? [{ layer: digest, diffId, index, indexBytes, home }] : [];
  });
}

function artifactOf(image: Image, places: readonly KeptIndex[]): Document | undefined {
  return places.length === 0 ? undefined : indexArtifact(image.document, places);
}

/** True if the referrer of an image is where it belongs, or there can be none. @throws {CodedError} what the cluster throws */
export async function isPublished(
  referrers: PublishDeps['referrers'],
  image: Image,
  bindings: Bindings,
  signal: AbortSignal,
): Promise<boolean> {
  const artifact = artifactOf(image, placesOf(image, bindings));
  if (artifact === undefined) return true;
  return (await referrers(image.digest, signal)).some((one) => one.digest === artifact.digest);
}

/**
 * Pushes the indexes of an image as its referrer, unless it is there. @returns where it stands and whether it is new;
 * undefined where there can be none @throws {CodedError} what cluster and registry throw
 */
export async function publish(
  { registry, repository, sourceAt, referrers }: PublishDeps,
  image: Image,
  bindings: Bindings,
  signal: AbortSignal,
): Promise<{ readonly target: string; readonly isNew: boolean } | undefined> {
  const places = placesOf(image, bindings);
  const artifact = artifactOf(image, places);
  if (artifact === undefined) return undefined;
  const target = `${registry.host}/${repository}@${artifact.digest}`;
  if (await isPublished(referrers, image, bindings, signal)) return { target, isNew: false };
  const to = registryTarget(registry, repository);
  const put = async (bytes: Buffer): Promise<void> => {
    const open = (start = 0, end = bytes.length): Readable => Readable.from([bytes.subarray(start, end)]);
    await to.putBlob({ digest: digestOf(bytes), sizeBytes: bytes.length, open }, signal);
  };
  await put(EMPTY_CONFIG);
  for (const { index, indexBytes, home } of places) {
    if (await to.has(index, indexBytes, signal)) continue;
    const chunks: Buffer[] = [];
    const blob = { digest: index, sizeBytes: indexBytes };
    await sourceAt(home).blob(blob, async (chunk) => void chunks.push(Buffer.from(chunk)), signal);
    await put(Buffer.concat(chunks));
  }
  await putReferrer(registry, repository, referrerOf(artifact), signal);
  return { target, isNew: true };
}
