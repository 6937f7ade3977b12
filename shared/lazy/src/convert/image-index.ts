import { type JsonObject, parseObject } from '@sepia/base/json/lossless-json';
import { isObject } from '@sepia/base/json/plain-object';
import { OCI_INDEX } from '@sepia/oci/manifest';
import {
  annotationsOf,
  type Document,
  documentOf,
  type RawDescriptor,
  type ResultMarks,
  readDocument,
  sourceMarks,
} from './documents.ts';

/** How a result stands beside its source: a tag of its own, one index of both, or a referrer of the source. */
export type ResultForm = 'tag' | 'image-index' | 'referrer';

/**
 * `platform."os.features"` of converted images in an index that holds their source too. Runtimes that look at features
 * leave them alone; others take the first image of their platform, which is the source.
 */
export function osFeature(format: string): string {
  return format === 'nydus' ? NYDUS_FEATURE : `sepia.${format}`;
}

/** The feature by which nydus-snapshotter finds a Nydus image beside an ordinary one. */
export const NYDUS_FEATURE = 'nydus.remoteimage.v1';

/**
 * The index of a source and, behind it, its converted images. `config` is that of a source that is one image.
 * @throws {CodedError} `MANIFEST_SYNTAX`
 */
export function besideSource(
  source: Document,
  converted: Document,
  config: Uint8Array | undefined,
  { format, options }: Pick<ResultMarks, 'format' | 'options'>,
): Document {
  const parsed = readDocument(source.bytes, source.mediaType);
  const made = readDocument(converted.bytes, converted.mediaType);
  const platform = config === undefined ? undefined : platformOf(config);
  const originals = parsed.kind === 'index' ? parsed.children : [imageEntry(source, platform)];
  const known = new Set(originals.map((one) => one.digest));
  const results = made.kind === 'index' ? made.children : [imageEntry(converted, platform)];
  const manifests = [
    ...originals.map((one) => one.raw),
    ...results.filter((one) => !known.has(one.digest)).map((one) => marked(one, source, format)),
  ];
  const json = parsed.kind === 'index' ? parsed.json : {};
  const annotations = { ...annotationsOf(json), ...sourceMarks(source.digest, format, options) };
  return documentOf({ ...json, schemaVersion: 2, mediaType: OCI_INDEX, manifests, annotations }, OCI_INDEX);
}

function imageEntry(image: Document, platform: JsonObject | undefined): RawDescriptor {
  const { mediaType, digest, bytes } = image;
  const raw = { mediaType, digest, size: bytes.length, ...(platform === undefined ? {} : { platform }) };
  return { mediaType, digest, sizeBytes: bytes.length, raw };
}

function marked({ raw }: RawDescriptor, source: Document, format: string): JsonObject {
  const platform = isObject(raw['platform']) ? raw['platform'] : undefined;
  const features = Array.isArray(platform?.['os.features']) ? (platform['os.features'] as unknown[]) : [];
  return {
    ...raw,
    ...(platform === undefined
      ? {}
      : { platform: { ...platform, 'os.features': [...features, osFeature(format)] } }),
    annotations: { ...annotationsOf(raw), ...sourceMarks(source.digest, format) },
  };
}

/** What an index says of the platform of an image, by the image's config (image-spec, "Image Index"). */
function platformOf(config: Uint8Array): JsonObject | undefined {
  const json = parseObject(config);
  if (typeof json?.['os'] !== 'string' || typeof json['architecture'] !== 'string') return undefined;
  const keys = ['architecture', 'os', 'os.version', 'os.features', 'variant'];
  return Object.fromEntries(keys.filter((key) => json[key] !== undefined).map((key) => [key, json[key]]));
}
