import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { isMediaType, mediaTypeIn } from './media-type.ts';

/** Deepest nesting of a manifest's JSON; what reads it elsewhere may recurse. */
const MAX_DEPTH = 100;
/** Most entries that one manifest names, of all kinds together: each is looked up and linked. */
const MAX_ENTRIES = 20_000;
/** Largest manifest taken or handed on, in bytes (distribution-spec, "Pushing manifests"). */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

/** A media type has at most 127 characters on either side of its slash (RFC 6838, 4.2). */
const MAX_TYPE_CHARS = 255;

/** Media types of OCI image-spec 1.1 and of Docker image manifest v2, schema 2. */
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
/** Media type of an image's manifest (image-spec, "Image Manifest"). */
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
/** Media type of an image's manifest in Docker's form, schema 2. */
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
/** Schema 1, signed and not. */
const DOCKER_V1 = [
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
  'application/vnd.docker.distribution.manifest.v1+json',
];
/** As before OCI 1.1, without a schema version. */
export const OCI_ARTIFACT = 'application/vnd.oci.artifact.manifest.v1+json';
/** The same kind, as it was called before. */
export const ORAS_ARTIFACT = 'application/vnd.cncf.oras.artifact.manifest.v1+json';

/**
 * Always sent upstream in full: distribution 2.8 answers 404 or converts without it. Further types too, as artifacts have them: strict
 * registries do not know of what is not accepted.
 */
export const MANIFEST_ACCEPT = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, '*/*'].join(', ');

const [QUOTE, BACKSLASH, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = Buffer.from('"\\{}[]');

/** What BuildKit lists in an index as the cache of a build: its layers, and what they are of. */
const NO_MANIFESTS = [
  'application/vnd.oci.image.layer.',
  'application/vnd.oci.image.config.',
  'application/vnd.docker.image.rootfs.',
  'application/vnd.docker.container.image.',
  'application/vnd.buildkit.cacheconfig.',
] as const;

/** One entry of a manifest: what it names, how big it is (bytes), and whether it must be there. */
export interface Descriptor {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly mediaType: string;
  /** Foreign (non-distributable) layers need not exist here. */
  readonly foreign: boolean;
  /** `child`: a manifest of an index; what an index lists by the type of a blob is a `layer`. */
  readonly kind: 'config' | 'layer' | 'child';
}

/** What a manifest names. Its bytes are kept beside, never made anew: they have the digest. */
export interface ParsedManifest {
  readonly mediaType: string;
  /** Neither a header nor the manifest itself says its type: it was guessed by its fields. */
  readonly isGuessed: boolean;
  readonly descriptors: readonly Descriptor[];
  /** Need not exist (distribution-spec, "Pushing Manifests with Subject"). */
  readonly subject: Digest | undefined;
  /** As a referrers list names it: its own, else the type of its config (distribution-spec, "Pushing Manifests with Subject"). */
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

/**
 * Reads what a manifest names. Unknown fields are ignored (the bytes are kept as they are), and all of a kind that is not known.
 * `contentType`: what the client or upstream said; parameters are left out.
 * @throws {CodedError} `MANIFEST_SYNTAX`, `MANIFEST_TOO_LARGE`
 */
export function parseManifest(bytes: Uint8Array, contentType: string | undefined): ParsedManifest {
  return parsed(bytes, contentType, false);
}

/**
 * As {@link parseManifest}, of one that is there already: registries serve some under another type than they say of themselves,
 * which counts then.
 */
export function parseServedManifest(bytes: Uint8Array, contentType: string | undefined): ParsedManifest {
  return parsed(bytes, contentType, true);
}

function parsed(bytes: Uint8Array, contentType: string | undefined, mayDiffer: boolean): ParsedManifest {
  if (bytes.length > MAX_MANIFEST_BYTES)
    throw new CodedError('MANIFEST_TOO_LARGE', { detail: { sizeBytes: bytes.length } });
  const declared = declaredType(contentType);
  const root = objectIn(bytes);
  if (root instanceof CodedError) throw root;
  const inside = typeof root['mediaType'] === 'string' ? root['mediaType'] : undefined;
  if (inside !== undefined && !isMediaType(inside)) throw syntax('mediaType is not a media type');
  if (inside !== undefined && declared !== undefined && inside !== declared && !mayDiffer)
    throw syntax('Content-Type and mediaType differ', { contentType: declared, mediaType: inside });
  const mediaType = (mayDiffer ? (inside ?? declared) : (declared ?? inside)) ?? guessType(root);
  const isGuessed = declared === undefined && inside === undefined;
  const isOwnKind = !isGuessed && !isManifestType(mediaType) && !DOCKER_V1.includes(mediaType);
  if (DOCKER_V1.includes(mediaType) || (root['schemaVersion'] === 1 && !isOwnKind))
    throw syntax('schema 1 manifests are not supported');
  if (root['schemaVersion'] !== 2 && !isOwnKind) throw syntax('schemaVersion must be 2');
  // Whatever an unknown kind means by fields of these names, it is kept as it is.
  const isForeign = isOwnKind && root['schemaVersion'] !== 2 && !isArtifactType(mediaType);
  return { mediaType, isGuessed, ...(isForeign ? NOTHING : namedBy(root)) };
}

const NOTHING = {
  descriptors: [],
  subject: undefined,
  artifactType: undefined,
  annotations: undefined,
} as const;

function namedBy(root: Record<string, unknown>): Omit<ParsedManifest, 'mediaType' | 'isGuessed'> {
  const subject = root['subject'];
  const config =
    root['config'] === undefined || root['config'] === null
      ? []
      : [entryOf(root['config'], 'config', 'config')];
  const descriptors = [
    ...config,
    ...entries(root['layers'] ?? [], 'layers', 'layer'),
    ...entries(root['manifests'] ?? [], 'manifests', 'child'),
    ...entries(root['blobs'] ?? [], 'blobs', 'layer'),
  ];
  if (descriptors.length > MAX_ENTRIES) throw syntax(`manifest names more than ${MAX_ENTRIES} entries`);
  return {
    descriptors,
    subject:
      subject === undefined || subject === null ? undefined : entryOf(subject, 'subject', 'child').digest,
    artifactType: artifactTypeOf(root['artifactType']) ?? config[0]?.mediaType,
    annotations: withAnnotations(root['annotations']).annotations,
  };
}

function declaredType(contentType: string | undefined): string | undefined {
  if (contentType === undefined || contentType === '') return undefined;
  const type = mediaTypeIn(contentType);
  if (type === undefined) throw syntax('Content-Type is not a media type');
  // Types are the same in any case of letters (RFC 9110, 8.3.1); those of other kinds stay as they are written.
  const lower = type.toLowerCase();
  if (lower === 'application/json') return undefined;
  return isKnownType(lower) || DOCKER_V1.includes(lower) ? lower : type;
}

/**
 * True for JSON that says of itself that it is a manifest, if maybe of a kind that {@link parseManifest} does not read:
 * schema 1, artifact manifests from before OCI 1.1, sizes beyond 2⁵³.
 */
export function claimsToBeManifest(bytes: Uint8Array): boolean {
  const root = objectIn(bytes);
  if (root instanceof CodedError) return false;
  return typeof root['schemaVersion'] === 'number' || typeof root['mediaType'] === 'string';
}

/** True for the media types of manifests that list manifests: the OCI index, and Docker's manifest list. Parameters are not taken. */
export function isIndexType(mediaType: string): boolean {
  return mediaType === OCI_INDEX || mediaType === DOCKER_LIST;
}

/** True for a media type that a client asks manifests by. */
export function isManifestType(mediaType: string): boolean {
  return isIndexType(mediaType) || mediaType === OCI_MANIFEST || mediaType === DOCKER_MANIFEST;
}

/** True for a type of manifest whose fields have a meaning here, artifacts from before OCI 1.1 among them. */
export function isKnownType(mediaType: string): boolean {
  return isManifestType(mediaType) || isArtifactType(mediaType);
}

function isArtifactType(mediaType: string): boolean {
  return mediaType === OCI_ARTIFACT || mediaType === ORAS_ARTIFACT;
}

/** The JSON object that a manifest is, or why it is none. */
function objectIn(bytes: Uint8Array): Record<string, unknown> | CodedError {
  if (isDeeperThan(bytes, MAX_DEPTH)) return syntax(`manifest is nested more than ${MAX_DEPTH} deep`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throwIfBug(cause);
    return new CodedError('MANIFEST_SYNTAX', { message: 'manifest is not valid JSON', cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return syntax('manifest is not a JSON object');
  return value as Record<string, unknown>;
}

/** True if brackets outside of strings are nested deeper; a scan of bytes, since parsers and printers may recurse. */
function isDeeperThan(bytes: Uint8Array, limit: number): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (inString) {
      if (byte === BACKSLASH) at += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth += 1;
      if (depth > limit) return true;
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth -= 1;
  }
  return false;
}

function entries(list: unknown, field: string, kind: Descriptor['kind']): Descriptor[] {
  if (!Array.isArray(list)) throw syntax(`${field} is not a list`);
  if (list.length > MAX_ENTRIES) throw syntax(`${field} names more than ${MAX_ENTRIES} entries`);
  return list.map((entry: unknown, index) => entryOf(entry, `${field}[${index}]`, kind));
}

/** `at`: where it stands, for messages. */
function entryOf(entry: unknown, at: string, kind: Descriptor['kind']): Descriptor {
  const { digest, size, mediaType } = (entry ?? {}) as Record<string, unknown>;
  if (typeof digest !== 'string' || !isDigest(digest)) throw syntax(`${at}.digest is not valid`);
  if (!Number.isSafeInteger(size) || (size as number) < 0) throw syntax(`${at}.size is not valid`);
  const said = typeof mediaType === 'string' ? mediaType : '';
  if (said.length > MAX_TYPE_CHARS) throw syntax(`${at}.mediaType is too long`);
  const foreign = said.includes('.foreign.') || said.includes('.nondistributable.');
  const type = mediaTypeIn(said) ?? 'application/octet-stream';
  const isBlob = kind === 'child' && NO_MANIFESTS.some((known) => type.startsWith(known));
  return { digest, sizeBytes: size as number, mediaType: type, foreign, kind: isBlob ? 'layer' : kind };
}

function artifactTypeOf(value: unknown): string | undefined {
  if (typeof value !== 'string' || value === '') return undefined;
  if (value.length > MAX_TYPE_CHARS) throw syntax('artifactType is too long');
  return value;
}

function guessType(root: Record<string, unknown>): string {
  return Array.isArray(root['manifests']) ? OCI_INDEX : OCI_MANIFEST;
}

/** The string values of an `annotations` object, if there are any. */
export function withAnnotations(value: unknown): { annotations?: Record<string, string> } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return {};
  const strings = Object.entries(value).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  return strings.length === 0 ? {} : { annotations: Object.fromEntries(strings) };
}

function syntax(message: string, detail: Record<string, unknown> = {}): CodedError {
  return new CodedError('MANIFEST_SYNTAX', { message, detail });
}
