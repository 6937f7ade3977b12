import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import {
  childImages,
  type Document,
  diffIdsOf,
  type RawDescriptor,
  readDocument,
} from '@sepia/lazy/convert/documents';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import { WorkLimits } from '@sepia/lazy/convert/work-limits';
import { isGone } from '../converting/sources.ts';

/** A layer as its image names it. */
export interface ImageLayer {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly mediaType: string;
  /** What the config claims; nobody checked it yet. */
  readonly diffId: Digest;
  readonly descriptor: RawDescriptor;
}

/** One platform of an image, with the layers from the bottom up. */
export interface Image {
  readonly digest: Digest;
  /** Its manifest. */
  readonly document: Document;
  readonly layers: readonly ImageLayer[];
}

const MAX_CONFIG_BYTES = 16 * 1024 * 1024;
const MAX_IMAGES = 100;

/**
 * The images behind a tag or digest: itself, or the children of an index that are images of layers. Children that the
 * repository does not have are left out: mirrors often have some platforms only.
 * @throws {CodedError} `MANIFEST_SYNTAX`, what the source throws
 */
export async function imagesOf(
  source: ImageSource,
  reference: string,
  signal: AbortSignal,
  limits = new WorkLimits(),
  depth = 0,
): Promise<Image[]> {
  limits.document(depth);
  const top = await source.manifest(reference, signal);
  const document = readDocument(top.bytes, top.mediaType);
  if (document.kind === 'other') return [];
  if (document.kind === 'image') {
    limits.image(document.layers);
    const diffIds = diffIdsOf(await configOf(source, document.config, signal), document.layers.length);
    const layers = document.layers.map((descriptor, index): ImageLayer => {
      const { digest, sizeBytes, mediaType } = descriptor;
      return { digest, sizeBytes, mediaType, diffId: diffIds[index]!, descriptor };
    });
    return [{ digest: top.digest, document: top, layers }];
  }
  const images: Image[] = [];
  for (const child of childImages(document).slice(0, MAX_IMAGES))
    images.push(...(await childOf(source, child.digest, signal, limits, depth + 1)));
  return images;
}

async function childOf(...asked: Required<Parameters<typeof imagesOf>>): Promise<Image[]> {
  try {
    return await imagesOf(...asked);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

async function configOf(
  source: ImageSource,
  config: { readonly digest: Digest; readonly sizeBytes: number },
  signal: AbortSignal,
): Promise<Buffer> {
  if (config.sizeBytes > MAX_CONFIG_BYTES)
    throw new CodedError('MANIFEST_SYNTAX', { message: `its config has ${config.sizeBytes} bytes` });
  const chunks: Buffer[] = [];
  await source.blob(config, async (chunk) => void chunks.push(Buffer.from(chunk)), signal);
  return Buffer.concat(chunks);
}
