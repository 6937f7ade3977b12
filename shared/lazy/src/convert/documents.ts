import { type Digest, digestOf, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { type JsonObject, parseObject } from '@sepia/base/json/lossless-json';
import { isObject } from '@sepia/base/json/plain-object';
import {
  DOCKER_LIST,
  DOCKER_MANIFEST,
  isIndexType,
  isManifestType,
  OCI_INDEX,
  OCI_MANIFEST,
} from '@sepia/oci/manifest';
import { TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION } from '../estargz/toc.ts';
import { isZstdAnnotation } from '../zstdchunked/annotations.ts';

/** Annotation of a result: the digest of the manifest or index that it was made from. */
export const SOURCE_ANNOTATION = 'io.sepia.conversion.source';
/** Annotation of a result: what it was made to, as `estargz`. */
export const FORMAT_ANNOTATION = 'io.sepia.conversion.format';
/** Annotation of a result: the options that made it, where they are not the usual ones. */
export const OPTIONS_ANNOTATION = 'io.sepia.conversion.options';
/** Of an image and of its entry in an index: the SOCI index of its layers, which a result has no more (soci-snapshotter, index v2). */
const SOCI_INDEX = 'com.amazon.soci.index-digest';
/** On a child of an index: what it attests, as BuildKit writes it. */
const ATTESTATION_TYPE = 'vnd.docker.reference.type';
/** Media type of an image's config (OCI image-spec, "Image Configuration"). */
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json';
const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';

/** Docker's media types and what OCI calls them (image-spec, "Compatibility Matrix"). */
const DOCKER_TO_OCI: Readonly<Record<string, string>> = {
  [DOCKER_LIST]: OCI_INDEX,
  [DOCKER_MANIFEST]: OCI_MANIFEST,
  [DOCKER_CONFIG]: OCI_CONFIG,
  'application/vnd.docker.image.rootfs.diff.tar': OCI_LAYER,
  'application/vnd.docker.image.rootfs.diff.tar.gzip': `${OCI_LAYER}+gzip`,
  'application/vnd.docker.image.rootfs.diff.tar.zstd': `${OCI_LAYER}+zstd`,
  'application/vnd.docker.image.rootfs.foreign.diff.tar':
    'application/vnd.oci.image.layer.nondistributable.v1.tar',
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip':
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
};
/** Layers that can be read as a tar. */
const READABLE = new Set([OCI_LAYER, `${OCI_LAYER}+gzip`, `${OCI_LAYER}+zstd`]);

/** What an entry of a manifest or index says; every field of the source is kept in `raw`. */
export interface RawDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly raw: JsonObject;
}

/** A manifest or index as it is sent to a registry; `digest` is that of `bytes`. */
export interface Document {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: string;
}

/** What a manifest is to a conversion: an index to go through, an image to convert, or something else. */
export type SourceDocument =
  | { readonly kind: 'index'; readonly json: JsonObject; readonly children: readonly RawDescriptor[] }
  | {
      readonly kind: 'image';
      readonly json: JsonObject;
      readonly config: RawDescriptor;
      readonly layers: readonly RawDescriptor[];
    }
  /** Not an image of layers: copied as it is, with everything that it names. */
  | { readonly kind: 'other'; readonly names: readonly RawDescriptor[] };

/**
 * Reads a manifest of any type into what a conversion makes of it; types of its parts may be Docker's. @throws {CodedError}
 * `MANIFEST_SYNTAX`
 */
export function readDocument(bytes: Uint8Array, mediaType: string): SourceDocument {
  const json = parseObject(bytes);
  if (json === undefined) throw wrong('the manifest is not a JSON object');
  if (isIndexType(mediaType))
    return { kind: 'index', json, children: listOf(json['manifests'], 'manifests') };
  const config = json['config'] === undefined ? undefined : descriptorOf(json['config'], 'config');
  const layers = listOf(json['layers'] ?? json['blobs'] ?? [], 'layers');
  const isImage =
    config !== undefined && ociType(config.mediaType) === OCI_CONFIG && json['artifactType'] === undefined;
  if (isImage) return { kind: 'image', json, config, layers };
  return { kind: 'other', names: config === undefined ? layers : [config, ...layers] };
}

/** The OCI name of a media type; others stay as they are. */
export function ociType(mediaType: string): string {
  // It is whatever a pushed manifest says: `constructor` is one too.
  return Object.hasOwn(DOCKER_TO_OCI, mediaType) ? DOCKER_TO_OCI[mediaType]! : mediaType;
}

/** True for a layer that is a tar we can read: not foreign, not encrypted, not of another kind. */
export function isReadableLayer(mediaType: string): boolean {
  return READABLE.has(ociType(mediaType));
}

/** True for a child of an index that says something of another child: an attestation. */
export function isAttestation(child: RawDescriptor): boolean {
  return annotationsOf(child.raw)[ATTESTATION_TYPE] !== undefined;
}

/** The manifests and indexes that an index names, but attestations; each once, however often it is named. */
export function childImages(document: SourceDocument): readonly RawDescriptor[] {
  const children = document.kind === 'index' ? document.children : [];
  const images = children.filter((child) => isManifestType(child.mediaType) && !isAttestation(child));
  return [...new Map(images.map((child) => [child.digest, child])).values()];
}

/** `os/architecture[/variant]` of a child, or undefined where it names none. */
export function platformText(child: RawDescriptor): string | undefined {
  const platform = child.raw['platform'];
  return isObject(platform) ? textOfPlatform(platform) : undefined;
}

function textOfPlatform({ os, architecture, variant }: JsonObject): string {
  return [os, architecture, variant].filter((part) => typeof part === 'string' && part !== '').join('/');
}

/** Is this child wanted? `wanted` matches a platform without a variant, too: `linux/arm64` takes `linux/arm64/v8`. */
export function isPlatform(child: RawDescriptor, wanted: readonly string[]): boolean {
  const text = platformText(child);
  return text !== undefined && isWanted(text, wanted);
}

/** As {@link isPlatform}, of an image by its config; one that names no platform is of any. */
export function isConfigOf(config: Uint8Array, wanted: readonly string[]): boolean {
  const json = parseObject(config);
  if (typeof json?.['os'] !== 'string' || typeof json['architecture'] !== 'string') return true;
  return isWanted(textOfPlatform(json), wanted);
}

function isWanted(text: string, wanted: readonly string[]): boolean {
  return wanted.some((one) => text === one || text.startsWith(`${one}/`));
}

/** The source that a result was made from, where this is one. */
export function sourceOf(json: JsonObject): string | undefined {
  return annotationsOf(json)[SOURCE_ANNOTATION];
}

/** What became of a layer: its new descriptor and DiffID. */
export interface NewLayer {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffId: Digest;
  readonly annotations: Readonly<Record<string, string>>;
}

/** DiffIDs of a config, one per layer. @throws {CodedError} `MANIFEST_SYNTAX` */
export function diffIdsOf(config: Uint8Array, layers: number): Digest[] {
  const rootfs = parseObject(config)?.['rootfs'];
  const ids = isObject(rootfs) ? rootfs['diff_ids'] : undefined;
  if (!Array.isArray(ids) || !ids.every((id): id is Digest => typeof id === 'string' && isDigest(id)))
    throw wrong('the config of the image has no rootfs.diff_ids');
  if (ids.length !== layers)
    throw wrong(`the config of the image has ${ids.length} diff_ids for ${layers} layers`);
  return ids;
}

/** The config with other DiffIDs and everything else as it was; byte for byte the same config where the DiffIDs are the same. */
export function newConfig(config: Buffer, old: readonly Digest[], diffIds: readonly Digest[]): Document {
  if (diffIds.every((id, index) => id === old[index]))
    return { bytes: config, digest: digestOf(config), mediaType: OCI_CONFIG };
  const json = parseObject(config);
  if (json === undefined) throw wrong('the config of the image is not a JSON object');
  const rootfs = { ...(json['rootfs'] as JsonObject), diff_ids: diffIds };
  return documentOf({ ...json, rootfs }, OCI_CONFIG);
}

/** What is noted on a result, so that it is known as one of its source by a format and its options. */
export interface ResultMarks {
  readonly format: string;
  readonly options?: string | undefined;
  /** It names its source as its subject, too. */
  readonly refersToSource: boolean;
}

/** The manifest of a converted image. `layers`: undefined keeps the source's layer; more than it has come behind them. */
export function newManifest(
  source: Document,
  image: Extract<SourceDocument, { kind: 'image' }>,
  config: Document,
  layers: readonly (NewLayer | undefined)[],
  marks: ResultMarks,
): Document {
  const newLayers = layers.map((layer, index) => {
    const old = image.layers[index];
    if (layer === undefined) return { ...old!.raw, mediaType: ociType(old!.mediaType) };
    const before = old === undefined ? {} : withoutFormat(annotationsOf(old.raw));
    const annotations = { ...before, ...layer.annotations };
    return { mediaType: layer.mediaType, digest: layer.digest, size: layer.sizeBytes, annotations };
  });
  return documentOf(
    {
      ...image.json,
      mediaType: OCI_MANIFEST,
      config: {
        ...image.config.raw,
        mediaType: OCI_CONFIG,
        digest: config.digest,
        size: config.bytes.length,
      },
      layers: newLayers,
      ...resultMarks(image.json, source, marks),
    },
    OCI_MANIFEST,
  );
}

/** Annotations without what a lazy format said of the layer before: two formats on one layer make it none to readers. */
function withoutFormat(annotations: Readonly<Record<string, string>>): Record<string, string> {
  const isFormat = (key: string): boolean =>
    key === UNCOMPRESSED_SIZE_ANNOTATION || key === TOC_DIGEST_ANNOTATION || isZstdAnnotation(key);
  return Object.fromEntries(Object.entries(annotations).filter(([key]) => !isFormat(key)));
}

/** The index of a converted image. `children`: undefined leaves a child out, the old descriptor keeps it. */
export function newIndex(
  source: Document,
  json: JsonObject,
  children: readonly (RawDescriptor | { readonly old: RawDescriptor; readonly now: Document })[],
  marks: ResultMarks,
): Document {
  const manifests = children.map((child) =>
    'now' in child
      ? {
          ...withoutSoci(child.old.raw),
          mediaType: child.now.mediaType,
          digest: child.now.digest,
          size: child.now.bytes.length,
        }
      : child.raw,
  );
  return documentOf(
    { ...json, mediaType: OCI_INDEX, manifests, ...resultMarks(json, source, marks) },
    OCI_INDEX,
  );
}

/** A document of this JSON: compact, keys in the order of the object. */
export function documentOf(json: JsonObject, mediaType: string): Document {
  const bytes = Buffer.from(JSON.stringify(json));
  return { bytes, digest: digestOf(bytes), mediaType };
}

function resultMarks(
  json: JsonObject,
  source: Document,
  { format, options, refersToSource }: ResultMarks,
): JsonObject {
  const { mediaType, digest, bytes } = source;
  return {
    ...(refersToSource ? { subject: { mediaType, digest, size: bytes.length } } : {}),
    annotations: { ...annotationsOf(withoutSoci(json)), ...sourceMarks(digest, format, options) },
  };
}

function withoutSoci(json: JsonObject): JsonObject {
  const { [SOCI_INDEX]: gone, ...annotations } = annotationsOf(json);
  return gone === undefined ? json : { ...json, annotations };
}

/** The annotations that say of a result what it is. */
export function sourceMarks(
  source: Digest,
  format: string,
  options?: string,
): Readonly<Record<string, string>> {
  const marks = { [SOURCE_ANNOTATION]: source, [FORMAT_ANNOTATION]: format };
  return options === undefined ? marks : { ...marks, [OPTIONS_ANNOTATION]: options };
}

/** The annotations of a manifest or descriptor, as they stand there, unchecked; none where there are none. */
export function annotationsOf(json: JsonObject): Record<string, string> {
  const annotations = json['annotations'];
  return isObject(annotations) ? (annotations as Record<string, string>) : {};
}

function listOf(value: unknown, field: string): RawDescriptor[] {
  if (!Array.isArray(value)) throw wrong(`${field} is not a list`);
  return value.map((one, index) => descriptorOf(one, `${field}[${index}]`));
}

function descriptorOf(value: unknown, field: string): RawDescriptor {
  if (!isObject(value)) throw wrong(`${field} is not an object`);
  const { mediaType, digest, size } = value;
  if (typeof digest !== 'string' || !isDigest(digest)) throw wrong(`${field}.digest is not valid`);
  if (!Number.isSafeInteger(size) || (size as number) < 0) throw wrong(`${field}.size is not valid`);
  const type = typeof mediaType === 'string' ? mediaType : 'application/octet-stream';
  return { mediaType: type, digest, sizeBytes: size as number, raw: value };
}

function wrong(message: string): CodedError {
  return new CodedError('MANIFEST_SYNTAX', { message });
}
