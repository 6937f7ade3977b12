import type { JsonObject } from '@sepia/base/json/lossless-json';
import { isObject } from '@sepia/base/json/plain-object';
import { TOC_DIGEST_ANNOTATION } from '../estargz/toc.ts';
import {
  annotationsOf,
  isReadableLayer,
  type RawDescriptor,
  type SourceDocument,
  sourceOf,
} from './documents.ts';
import { NYDUS_FEATURE, osFeature } from './image-index.ts';
import { NYDUS_BLOB_ANNOTATION, NYDUS_BOOTSTRAP_ANNOTATION } from './nydus-marks.ts';

/** On manifests and indexes that other services made (acceleration-service, nydusify). */
const FOREIGN_MARKS = [
  'containerd.io/snapshot/nydus-source-digest',
  'containerd.io/snapshot/nydus-source-reference',
];
/** On layers that start lazily, whoever made them: stargz-snapshotter, containers/storage, nydus, overlaybd. */
const LAZY_LAYER_MARKS = [
  TOC_DIGEST_ANNOTATION,
  'io.containers.zstd-chunked.manifest-checksum',
  'io.github.containers.zstd-chunked.manifest-checksum',
  'containerd.io/snapshot/overlaybd/blob-digest',
];
const NYDUS_LAYER_MARKS = [NYDUS_BLOB_ANNOTATION, NYDUS_BOOTSTRAP_ANNOTATION];
const OUR_FEATURE = osFeature('');

/**
 * Why a document must not be converted: it is what a conversion made, ours or another's, by what it says of itself,
 * wherever it stands now; undefined if it may. Children of an index are documents of their own: ask for each.
 */
export function whyResult(document: SourceDocument): string | undefined {
  if (document.kind === 'other') return undefined;
  if (sourceOf(document.json) !== undefined) return 'it is a result of a conversion';
  const marks = annotationsOf(document.json);
  if (FOREIGN_MARKS.some((mark) => marks[mark] !== undefined))
    return 'it is a result of another conversion service';
  if (document.kind === 'index')
    return document.children.some(isResultChild) ? 'its index holds a result of a conversion' : undefined;
  const layers = document.layers.filter((layer) => !isEmpty(layer));
  return layers.length > 0 && layers.every(isLazyLayer)
    ? 'its layers are in a lazy format already'
    : undefined;
}

/** True for an image of which at least one layer is a tar that can be read: not a signature, a chart, a Nydus image. */
export function isConvertible(document: SourceDocument): boolean {
  return document.kind === 'image' && document.layers.some((layer) => isReadableLayer(layer.mediaType));
}

function isResultChild({ raw }: RawDescriptor): boolean {
  const marks = annotationsOf(raw);
  const platform = raw['platform'];
  return (
    sourceOf(raw) !== undefined ||
    FOREIGN_MARKS.some((mark) => marks[mark] !== undefined) ||
    isMarkedPlatform(platform)
  );
}

function isMarkedPlatform(platform: unknown): boolean {
  const features = isObject(platform) ? (platform as JsonObject)['os.features'] : undefined;
  return (
    Array.isArray(features) &&
    features.some((one) => one === NYDUS_FEATURE || (typeof one === 'string' && one.startsWith(OUR_FEATURE)))
  );
}

function isLazyLayer(layer: RawDescriptor): boolean {
  const marks = annotationsOf(layer.raw);
  return isNydusLayer(layer) || LAZY_LAYER_MARKS.some((mark) => marks[mark] !== undefined);
}

/** True for a data blob of Nydus, and for the layer with a bootstrap. */
export function isNydusLayer({ mediaType, raw }: RawDescriptor): boolean {
  const marks = annotationsOf(raw);
  return mediaType.includes('.nydus.') || NYDUS_LAYER_MARKS.some((mark) => marks[mark] !== undefined);
}

/** A layer without entries: converters keep some of them as they are. */
function isEmpty({ sizeBytes }: RawDescriptor): boolean {
  return sizeBytes <= EMPTY_LAYER_BYTES;
}

/** gzip of a tar of 1024 zeros, as docker and BuildKit write it, has 32 bytes. */
const EMPTY_LAYER_BYTES = 40;
