import { CodedError } from '@sepia/base/errors';
import { isIndexType, isKnownType, isManifestType, type ParsedManifest, parseManifest } from './manifest.ts';

const [QUOTE, BACKSLASH, COLON, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] =
  Buffer.from('"\\:{}[]');
/** Most keys of one object: images have dozens, and each costs every reader time. */
const MAX_KEYS = 10_000;
/** Fields that readers look for, by the object that has them. */
const FIELDS = {
  manifest: [
    'schemaVersion',
    'mediaType',
    'artifactType',
    'config',
    'layers',
    'blobs',
    'manifests',
    'subject',
    'annotations',
    'fsLayers',
  ],
  entry: ['mediaType', 'digest', 'size', 'urls', 'data', 'artifactType', 'platform', 'annotations'],
  platform: ['architecture', 'os', 'os.version', 'os.features', 'variant', 'features'],
} as const;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/**
 * Reads a manifest that is pushed: as {@link parseManifest}, and it must say one thing to every reader (CVE-2021-41190): no fields
 * of the other kind, no key twice, no field in another case of letters, no byte order mark. What is there already is read as it is.
 * @throws {CodedError} `MANIFEST_SYNTAX`, `MANIFEST_TOO_LARGE`
 */
export function parsePushedManifest(bytes: Uint8Array, contentType: string | undefined): ParsedManifest {
  const parsed = parseManifest(bytes, contentType);
  if (BYTE_ORDER_MARK.equals(bytes.subarray(0, 3))) throw ambiguous('manifest begins with a byte order mark');
  const twice = keyTwice(bytes);
  if (twice !== undefined)
    throw ambiguous(`manifest has the key ${JSON.stringify(twice.slice(0, 64))} twice`);
  const root = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  const named = root['mediaType'];
  if (named !== undefined && named !== null && typeof named !== 'string')
    throw new CodedError('MANIFEST_SYNTAX', { message: 'mediaType is not text' });
  const { mediaType } = parsed;
  const isImage = isManifestType(mediaType) && !isIndexType(mediaType);
  const others = isIndexType(mediaType)
    ? ['config', 'layers', 'fsLayers']
    : isImage
      ? ['manifests', 'fsLayers']
      : [];
  const odd = isKnownType(mediaType) ? oddField(root) : undefined;
  if (odd !== undefined)
    throw ambiguous(
      `manifest has the field ${JSON.stringify(odd.slice(0, 64))}; its letters are of another case`,
    );
  const other = others.find((field) => root[field] !== undefined && root[field] !== null);
  if (other !== undefined) throw ambiguous(`a manifest of type ${mediaType} has no ${other}`, { mediaType });
  // Go's readers make an empty descriptor of it, others fail.
  if (isImage && root['config'] === null)
    throw new CodedError('MANIFEST_SYNTAX', { message: 'config is null; an image names its config' });
  return parsed;
}

/**
 * The first key that some readers (Go's) take for a field of a manifest, an entry or its platform, and others do not: it differs
 * from the field's name by the case of its letters alone.
 */
function oddField(root: Record<string, unknown>): string | undefined {
  const entries = [root['config'], root['subject'], root['layers'], root['blobs'], root['manifests']]
    .flat()
    .filter(isObject);
  const platforms = entries.map((entry) => entry['platform']).filter(isObject);
  return (
    oddKey([root], FIELDS.manifest) ?? oddKey(entries, FIELDS.entry) ?? oddKey(platforms, FIELDS.platform)
  );
}

function oddKey(objects: readonly Record<string, unknown>[], fields: readonly string[]): string | undefined {
  const folded = new Set(fields.map(foldCase));
  for (const one of objects)
    for (const key of Object.keys(one)) if (!fields.includes(key) && folded.has(foldCase(key))) return key;
  return undefined;
}

/** One spelling for all that differ by case alone, long s and the Kelvin sign too. */
function foldCase(key: string): string {
  return key.toUpperCase().toLowerCase();
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/**
 * The first key that an object of the JSON text has twice; on the outermost level, whose fields some readers find in any case
 * of letters, also in another one. `bytes` must be valid JSON. @throws {CodedError} `MANIFEST_SYNTAX` for {@link MAX_KEYS}
 */
export function keyTwice(bytes: Uint8Array): string | undefined {
  /** Keys of the objects around, undefined for lists. */
  const around: (Set<string> | undefined)[] = [];
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === OPEN_BRACE) around.push(new Set());
    else if (byte === OPEN_BRACKET) around.push(undefined);
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) around.pop();
    if (byte !== QUOTE) continue;
    const start = at;
    let isPlain = true;
    for (at += 1; at < bytes.length && bytes[at] !== QUOTE; at++) {
      if (bytes[at] === BACKSLASH || bytes[at]! >= 0x80) isPlain = false;
      if (bytes[at] === BACKSLASH) at += 1;
    }
    const keys = around.at(-1);
    if (keys === undefined || !isColonNext(bytes, at + 1)) continue;
    // Nearly all are plain, and cost a third then.
    const key = isPlain
      ? text.toString('latin1', start + 1, at)
      : (JSON.parse(new TextDecoder().decode(bytes.subarray(start, at + 1))) as string);
    const seen = around.length === 1 ? foldCase(key) : key;
    if (keys.has(seen)) return key;
    if (keys.size >= MAX_KEYS) throw ambiguous(`an object of the manifest has more than ${MAX_KEYS} keys`);
    keys.add(seen);
  }
  return undefined;
}

function isColonNext(bytes: Uint8Array, from: number): boolean {
  let at = from;
  while (bytes[at] === 0x20 || bytes[at] === 0x09 || bytes[at] === 0x0a || bytes[at] === 0x0d) at += 1;
  return bytes[at] === COLON;
}

function ambiguous(message: string, detail: Record<string, unknown> = {}): CodedError {
  return new CodedError('MANIFEST_SYNTAX', { message, detail });
}
