import { isCoded } from '@sepia/base/errors';
import { type ConversionRule, sizeFault } from '@sepia/cluster/conversion-rule';
import { childImages, type Document, readDocument } from '@sepia/lazy/convert/documents';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import { isConvertible, whyResult } from '@sepia/lazy/convert/results';

/** The same source; `hear` is given each manifest that it gives. */
export function heardBy(source: ImageSource, hear: (document: Document) => void): ImageSource {
  return {
    ...source,
    manifest: async (...asked) => {
      const document = await source.manifest(...asked);
      hear(document);
      return document;
    },
  };
}

/** A manifest, or undefined where the cluster says that there is none. @throws {CodedError} what else it says */
export async function manifestOrNone(
  source: ImageSource,
  reference: string,
  signal: AbortSignal,
): Promise<Document | undefined> {
  try {
    return await source.manifest(reference, signal);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** True for an answer that what was asked for is not there. */
export function isGone(error: unknown): boolean {
  return (
    isCoded(error, 'MANIFEST_UNKNOWN') ||
    isCoded(error, 'TAG_UNKNOWN') ||
    isCoded(error, 'REPOSITORY_UNKNOWN')
  );
}

/** A result, or an index that holds one, is never a source; nor is what is no image, or of another size than wanted. */
export async function whyNotASource(
  source: ImageSource,
  top: Document,
  rule: ConversionRule,
  signal: AbortSignal,
): Promise<string | undefined> {
  const parsed = readDocument(top.bytes, top.mediaType);
  const reason = whyResult(parsed);
  if (reason !== undefined) return reason;
  const documents = [parsed];
  for (const { digest } of childImages(parsed)) {
    const document = await manifestOrNone(source, digest, signal);
    // Mirrors often have some platforms only; who wants one that is not there is told so when it is converted.
    if (document === undefined) continue;
    const inner = readDocument(document.bytes, document.mediaType);
    if (whyResult(inner) !== undefined) return 'its index holds a result of a conversion';
    documents.push(inner);
  }
  if (!documents.some(isConvertible)) return 'it is not an image of layers';
  const sizes = documents.flatMap((one) => (one.kind === 'image' ? one.layers : []));
  return sizeFault(
    rule,
    sizes.reduce((sum, layer) => sum + layer.sizeBytes, 0),
  );
}
