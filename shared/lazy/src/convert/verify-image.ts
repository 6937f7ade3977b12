import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { isManifestType, MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import type { Finding, VerifyResult } from '../estargz/check-layer.ts';
import { parseFooter } from '../estargz/footer.ts';
import { TOC_DIGEST_ANNOTATION } from '../estargz/toc.ts';
import { verifyEstargz } from '../estargz/verify.ts';
import { parseZstdAnnotations } from '../zstdchunked/annotations.ts';
import { verifyZstdChunked } from '../zstdchunked/verify.ts';
import {
  annotationsOf,
  type Document,
  diffIdsOf,
  isPlatform,
  platformText,
  type RawDescriptor,
  readDocument,
  type SourceDocument,
} from './documents.ts';
import type { ImageSource } from './ends.ts';
import { isNydusLayer } from './results.ts';
import type { MakeScratch, Scratch } from './scratch.ts';
import { smallBlob } from './small-blob.ts';
import { LAYER_DIGEST_ANNOTATION } from './toc-image.ts';
import { bootstrapOf, type NydusBootstrap, verifyBootstrap, verifyNydusBlob } from './verify-nydus.ts';

interface Deps {
  readonly source: ImageSource;
  readonly scratch: MakeScratch;
  /** The image with the TOCs, where layers do not hold them; undefined if there is none. */
  readonly tocImage: () => Promise<Document | undefined>;
  readonly onLayer: (layer: VerifiedLayer) => void;
  readonly signal?: AbortSignal | undefined;
}

/** What was found of one layer. */
export interface VerifiedLayer {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly platform: string | undefined;
  /** `ordinary`: not made for lazy reading; it was not looked at. */
  readonly state: 'right' | 'wrong' | 'ordinary';
  readonly findings: readonly Finding[];
  readonly entries: number;
  readonly chunks: number;
}

const MAX_DEPTH = 4;
const MAX_TOC_BYTES = 256 * 1024 * 1024;

/**
 * Verifies every lazy layer of an image whole (see `verifyEstargz`), each once.
 * @throws {CodedError} what the source throws, `MANIFEST_SYNTAX`, `REQUEST_INVALID` where no platform is wanted
 */
export async function verifyImage(
  deps: Deps,
  reference: string,
  platforms: readonly string[] | undefined,
): Promise<VerifiedLayer[]> {
  const seen = new Map<Digest, VerifiedLayer>();
  const visit = async (document: Document, platform: string | undefined, depth: number): Promise<void> => {
    const parsed = readDocument(document.bytes, document.mediaType);
    if (depth > MAX_DEPTH || parsed.kind === 'other') return;
    if (parsed.kind === 'image') return await verifyLayers(deps, parsed, platform, seen);
    for (const child of parsed.children) {
      if (!isManifestType(child.mediaType) || (platforms !== undefined && !isPlatform(child, platforms)))
        continue;
      await visit(await deps.source.manifest(child.digest, deps.signal), platformText(child), depth + 1);
    }
  };
  await visit(await deps.source.manifest(reference, deps.signal), undefined, 0);
  if (seen.size === 0)
    throw new CodedError('REQUEST_INVALID', {
      message: `${reference} has no layers${platforms === undefined ? '' : ' of that platform'}`,
    });
  return [...seen.values()];
}

async function verifyLayers(
  deps: Deps,
  image: Extract<SourceDocument, { kind: 'image' }>,
  platform: string | undefined,
  seen: Map<Digest, VerifiedLayer>,
): Promise<void> {
  // An attestation has a config of its own kind with layers that are no file systems.
  const diffIds = await diffIdsIn(deps, image);
  const note = (layer: RawDescriptor, verified: Verified | undefined): void => {
    const { digest, sizeBytes } = layer;
    const one: VerifiedLayer = { ...ORDINARY, ...verified, digest, sizeBytes, platform };
    seen.set(layer.digest, one);
    deps.onLayer(one);
  };
  const last = bootstrapOf(image.layers);
  const bootstrap =
    last === undefined ? undefined : await readNydus(deps, last, image.layers, diffIds.at(-1));
  for (const [index, layer] of image.layers.entries()) {
    if (seen.has(layer.digest)) continue;
    if (layer === last) note(layer, verifiedBy(bootstrap!.result));
    else note(layer, await verifyLayer(deps, layer, diffIds[index], bootstrap));
  }
}

type Verified = Pick<VerifiedLayer, 'state' | 'findings' | 'entries' | 'chunks'>;

const ORDINARY: Verified = { state: 'ordinary', findings: [], entries: 0, chunks: 0 };

function verifiedBy({ findings, entries, chunks }: VerifyResult): Verified {
  return { state: findings.length === 0 ? 'right' : 'wrong', findings, entries, chunks };
}

async function readNydus(
  deps: Deps,
  layer: RawDescriptor,
  layers: readonly RawDescriptor[],
  diffId: Digest | undefined,
): Promise<NydusBootstrap> {
  await using packed = await deps.scratch();
  await bring(deps, layer, packed);
  return await verifyBootstrap(layer, packed, layers, diffId);
}

async function diffIdsIn(deps: Deps, image: Extract<SourceDocument, { kind: 'image' }>): Promise<Digest[]> {
  if (!image.layers.some((layer) => formatOf(layer) !== undefined || isNydusLayer(layer))) return [];
  return diffIdsOf(
    await smallBlob(deps.source, image.config, MAX_MANIFEST_BYTES, deps.signal),
    image.layers.length,
  );
}

/** Undefined for a layer that was not made for lazy reading. */
async function verifyLayer(
  deps: Deps,
  layer: RawDescriptor,
  diffId: Digest | undefined,
  nydus: NydusBootstrap | undefined,
): Promise<Verified | undefined> {
  const isNydus = nydus !== undefined && isNydusLayer(layer);
  if (!isNydus && formatOf(layer) === undefined) return undefined;
  await using blob = await deps.scratch();
  await bring(deps, layer, blob);
  return verifiedBy(
    isNydus ? await verifyNydusBlob(layer, blob, nydus, diffId) : await verifyBlob(deps, layer, blob, diffId),
  );
}

/** A source that says that its bytes are not those of the digest has given them: they are for the check to judge. */
async function bring({ source, signal }: Deps, layer: RawDescriptor, into: Scratch): Promise<void> {
  try {
    await source.blob(layer, (chunk) => into.append(chunk), signal);
  } catch (error) {
    throwIfBug(error);
    if (!isCoded(error, 'DIGEST_MISMATCH')) throw error;
  }
}

async function verifyBlob(
  deps: Deps,
  layer: RawDescriptor,
  blob: Scratch,
  diffId: Digest | undefined,
): Promise<VerifyResult> {
  const { digest } = layer;
  const { sizeBytes } = blob;
  const read = (offset: number, length: number): Promise<Uint8Array> => blob.read(offset, length);
  const annotations = annotationsOf(layer.raw);
  const given = { sizeBytes, read, digest, diffId };
  if (formatOf(layer) === 'zstdchunked') return await verifyZstdChunked({ ...given, annotations });
  const externalToc = await externalTocOf(deps, blob, digest);
  return await verifyEstargz({ ...given, tocDigest: annotations[TOC_DIGEST_ANNOTATION], externalToc });
}

/** What a layer was made to, by its descriptor; undefined: nothing that starts lazily. */
function formatOf({ mediaType, raw }: RawDescriptor): 'estargz' | 'zstdchunked' | undefined {
  const annotations = annotationsOf(raw);
  if (parseZstdAnnotations(annotations) !== undefined) return 'zstdchunked';
  if (annotations[TOC_DIGEST_ANNOTATION] === undefined) return undefined;
  return mediaType.endsWith('+zstd') ? 'zstdchunked' : 'estargz';
}

async function externalTocOf(deps: Deps, blob: Scratch, digest: Digest): Promise<Uint8Array | undefined> {
  const tail = await blob.read(Math.max(0, blob.sizeBytes - 51), Math.min(51, blob.sizeBytes));
  if (parseFooter(tail)?.kind !== 'external') return undefined;
  const image = await deps.tocImage();
  const parsed = image === undefined ? undefined : readDocument(image.bytes, image.mediaType);
  if (parsed?.kind !== 'image') return undefined;
  const toc = parsed.layers.find((one) => annotationsOf(one.raw)[LAYER_DIGEST_ANNOTATION] === digest);
  return toc === undefined ? undefined : await smallBlob(deps.source, toc, MAX_TOC_BYTES, deps.signal);
}
