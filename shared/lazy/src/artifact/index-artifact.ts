import { type Digest, digestOf, isDigest } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import {
  annotationsOf,
  type Document,
  documentOf,
  type RawDescriptor,
  readDocument,
  sourceMarks,
} from '../convert/documents.ts';

/** `artifactType` of the referrer that holds the indexes of an image's layers. */
export const INDEX_ARTIFACT = 'application/vnd.sepia.layer-indexes.v1';
/** Media type of each of its layers: an index as it is kept in a cluster. */
const LAYER_INDEX = 'application/vnd.sepia.layer-index.v1';
/** On each: the layer that it is of, and that one's diffID. A hint: the index says both, and who takes it reads the layer. */
const LAYER_ANNOTATION = 'io.sepia.index.layer';
const DIFF_ID_ANNOTATION = 'io.sepia.index.diff-id';
/** What stands for a config where there is none (image-spec, "Guidance for an Empty Descriptor"). */
export const EMPTY_CONFIG = Buffer.from('{}');

/** The index of one layer, as an artifact names it. */
export interface LayerIndexPlace {
  readonly layer: Digest;
  readonly diffId: Digest;
  readonly index: Digest;
  readonly indexBytes: number;
}

/** The artifact with these indexes, in the order of the image's layers. The same image and indexes give the same. */
export function indexArtifact(image: Document, indexes: readonly LayerIndexPlace[]): Document {
  const { mediaType, digest, bytes } = image;
  const unique = new Map(indexes.map((one) => [one.layer, one]));
  return documentOf(
    {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      artifactType: INDEX_ARTIFACT,
      config: {
        mediaType: 'application/vnd.oci.empty.v1+json',
        digest: digestOf(EMPTY_CONFIG),
        size: EMPTY_CONFIG.length,
      },
      layers: [...unique.values()].map((one) => ({
        mediaType: LAYER_INDEX,
        digest: one.index,
        size: one.indexBytes,
        annotations: { [LAYER_ANNOTATION]: one.layer, [DIFF_ID_ANNOTATION]: one.diffId },
      })),
      subject: { mediaType, digest, size: bytes.length },
      annotations: sourceMarks(digest, 'index'),
    },
    OCI_MANIFEST,
  );
}

/** Which index an artifact has for which layer; empty for what is no such artifact. @throws {CodedError} `MANIFEST_SYNTAX` */
export function indexesIn({ bytes, mediaType }: Document): ReadonlyMap<Digest, RawDescriptor> {
  const found = new Map<Digest, RawDescriptor>();
  const document = readDocument(bytes, mediaType);
  if (document.kind !== 'other') return found;
  for (const one of document.names) {
    const layer = annotationsOf(one.raw)[LAYER_ANNOTATION];
    if (one.mediaType === LAYER_INDEX && typeof layer === 'string' && isDigest(layer)) found.set(layer, one);
  }
  return found;
}
