import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';

/** Name of the last entry of an eStargz tar: the table of contents. */
export const TOC_NAME = 'stargz.index.json';
/** Layer annotation with the digest of the uncompressed TOC, the root of trust of a lazy mount. */
export const TOC_DIGEST_ANNOTATION = 'containerd.io/snapshot/stargz/toc.digest';
/** Layer annotation with the length of the whole uncompressed stream, decimal (read by containers/storage). */
export const UNCOMPRESSED_SIZE_ANNOTATION = 'io.containers.estargz.uncompressed-size';
/** Most entries that a TOC may hold. */
const MAX_TOC_ENTRIES = 4_000_000;

/** `chunk`: a further part of the regular file before it; the others are types of tar entries. */
export type TocType = 'dir' | 'reg' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo' | 'chunk';

/**
 * One entry of a TOC as it is written (stargz-snapshotter, `docs/estargz.md`). Numbers that are 0 and texts that are
 * empty are left out in JSON; so is the `chunkSize` of a last or only chunk that is shorter than the chunk size.
 */
export interface TocEntry {
  /** Path as in the tar header. */
  readonly name: string;
  readonly type: TocType;
  /** Length of a regular file, bytes. */
  readonly size?: number;
  /** RFC 3339, UTC, whole seconds. */
  readonly modtime?: string;
  readonly linkName?: string;
  /** Permission bits with setuid, setgid and sticky; no type bits. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Left out where it is what the last entry of this uid said. */
  readonly userName?: string;
  readonly groupName?: string;
  /** Where the gzip member (zstd frame) that holds the chunk begins in the blob. */
  readonly offset?: number;
  /** Where it ends (zstd:chunked of containers/storage): of a file of one chunk, and of the last chunk. */
  readonly endOffset?: number;
  /** Uncompressed bytes to skip inside that member. */
  readonly innerOffset?: number;
  readonly devMajor?: number;
  readonly devMinor?: number;
  /** Values in base64. */
  readonly xattrs?: Readonly<Record<string, string>>;
  /** `sha256:…` of the whole file; every regular file has it, an empty one too. */
  readonly digest?: string;
  /** Position of the chunk in the file. */
  readonly chunkOffset?: number;
  readonly chunkSize?: number;
  /** `sha256:…` of the chunk's uncompressed bytes. */
  readonly chunkDigest?: string;
}

const TYPES: ReadonlySet<string> = new Set<TocType>([
  'dir',
  'reg',
  'symlink',
  'hardlink',
  'char',
  'block',
  'fifo',
  'chunk',
]);
const TEXTS = ['modtime', 'linkName', 'userName', 'groupName', 'digest', 'chunkDigest'] as const;
const NUMBERS = [
  'size',
  'mode',
  'uid',
  'gid',
  'offset',
  'endOffset',
  'innerOffset',
  'devMajor',
  'devMinor',
  'chunkOffset',
  'chunkSize',
] as const;
/** Keys in the order in which the Go tools write them. */
const KEYS = [
  'name',
  'type',
  'size',
  'modtime',
  'linkName',
  'mode',
  'uid',
  'gid',
  'userName',
  'groupName',
  'offset',
  'endOffset',
  'innerOffset',
  'devMajor',
  'devMinor',
  'xattrs',
  'digest',
  'chunkOffset',
  'chunkSize',
  'chunkDigest',
] as const satisfies readonly (keyof TocEntry)[];

/** Text before the first entry of a TOC. */
export const TOC_HEAD = '{"version":1,"entries":[';
/** Text after its last entry. */
export const TOC_TAIL = '\n]}\n';

/** One entry as a line of JSON without a separator; the same entry gives the same text. */
export function tocEntryText(entry: TocEntry): string {
  const parts: string[] = [];
  for (const key of KEYS) {
    const value = entry[key];
    if (value === undefined || value === 0 || (value === '' && key !== 'name')) continue;
    if (key === 'xattrs' && Object.keys(value).length === 0) continue;
    parts.push(
      `"${key}":${key === 'xattrs' ? sortedText(value as Record<string, string>) : JSON.stringify(value)}`,
    );
  }
  return `{${parts.join(',')}}`;
}

/** What a TOC holds. */
interface Toc {
  readonly entries: TocEntry[];
  /** `sha256:…` of the compressed tar-split that belongs to it (zstd:chunked of containers/storage). */
  readonly tarSplitDigest?: string;
}

/**
 * Reads a TOC: the exact bytes of `stargz.index.json`. Unknown keys are ignored.
 * @throws {CodedError} `MANIFEST_SYNTAX` that names the entry and the field
 */
export function parseToc(json: Uint8Array): Toc {
  let root: unknown;
  try {
    root = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('MANIFEST_SYNTAX', { message: 'the TOC is not valid JSON', cause });
  }
  const { version, entries, tarSplitDigest } = (root ?? {}) as Record<string, unknown>;
  if (version !== 1) throw wrong(`the TOC has version ${JSON.stringify(version)}; only 1 is known`);
  // Go writes `null` for an empty list.
  const list = entries ?? [];
  if (!Array.isArray(list)) throw wrong('"entries" of the TOC is not a list');
  if (list.length > MAX_TOC_ENTRIES) throw wrong(`the TOC has more than ${MAX_TOC_ENTRIES} entries`);
  const split = typeof tarSplitDigest === 'string' && tarSplitDigest !== '' ? { tarSplitDigest } : {};
  return { entries: list.map(entryOf), ...split };
}

function entryOf(raw: unknown, index: number): TocEntry {
  if (typeof raw !== 'object' || raw === null) throw wrong(`entry ${index} of the TOC is not an object`);
  const from = raw as Record<string, unknown>;
  const { name, type } = from;
  if (typeof name !== 'string') throw wrong(`entry ${index} of the TOC has no name`);
  if (typeof type !== 'string' || !TYPES.has(type))
    throw wrong(`entry ${index} of the TOC (${shown(name)}) has an unknown type`);
  const entry: Record<string, unknown> = { name, type };
  for (const key of TEXTS) {
    const value = from[key];
    if (value === undefined || value === '') continue;
    if (typeof value !== 'string') throw wrong(`${key} of ${shown(name)} in the TOC is not a text`);
    entry[key] = value;
  }
  for (const key of NUMBERS) {
    const value = from[key];
    if (value === undefined || value === 0) continue;
    if (!Number.isSafeInteger(value) || (value as number) < 0)
      throw wrong(`${key} of ${shown(name)} in the TOC is not a whole number`);
    entry[key] = value;
  }
  const xattrs = xattrsOf(from['xattrs'], name);
  if (xattrs !== undefined) entry['xattrs'] = xattrs;
  return entry as unknown as TocEntry;
}

function xattrsOf(raw: unknown, name: string): Record<string, string> | undefined {
  if (raw === undefined || raw === null) return undefined;
  if (typeof raw !== 'object' || Array.isArray(raw))
    throw wrong(`xattrs of ${shown(name)} in the TOC is not an object`);
  const pairs = Object.entries(raw);
  for (const [key, value] of pairs)
    if (typeof value !== 'string')
      throw wrong(`xattr ${shown(key)} of ${shown(name)} in the TOC is not a text`);
  return pairs.length === 0 ? undefined : Object.fromEntries(pairs as [string, string][]);
}

/** An object with its keys in byte order, so that the order of PAX records does not matter. */
function sortedText(record: Readonly<Record<string, string>>): string {
  const keys = Object.keys(record).sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(record[key])}`).join(',')}}`;
}

/** A name as readers compare it: no `./`, no `..`, no slash at either end; the root is the empty text. */
export function cleanName(name: string): string {
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return parts.join('/');
}

/** Latest and earliest second that RFC 3339 can hold with four digits of a year. */
const MAX_SECOND = 253_402_300_799;
const MIN_SECOND = -62_135_596_800;

/** True for seconds since 1970 that RFC 3339 can hold with four digits of a year. */
export function isRfc3339(seconds: number): boolean {
  return seconds >= MIN_SECOND && seconds <= MAX_SECOND;
}

/** The `modtime` text of a time to the nanosecond, as containers/storage writes it; empty for 0. Within {@link isRfc3339}. */
export function exactTimeText(seconds: number, nanoseconds: number): string {
  if (seconds === 0 && nanoseconds === 0) return '';
  const whole = new Date(seconds * 1000).toISOString().slice(0, -'.000Z'.length);
  const fraction = nanoseconds === 0 ? '' : `.${String(nanoseconds).padStart(9, '0').replace(/0+$/, '')}`;
  return `${whole}${fraction}Z`;
}

/**
 * The `modtime` text of a time in nanoseconds since 1970: rounded to the next second, half away from zero, as the Go
 * tools do; empty for 0. Times that RFC 3339 cannot hold become the nearest that it can.
 */
export function modtimeText(mtimeNs: bigint): string {
  const half = mtimeNs < 0n ? -500_000_000n : 500_000_000n;
  const rounded = Number((mtimeNs + half) / 1_000_000_000n);
  if (rounded === 0) return '';
  const seconds = Math.min(MAX_SECOND, Math.max(MIN_SECOND, rounded));
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
}

function shown(name: string): string {
  return JSON.stringify(name.slice(0, 200));
}

function wrong(message: string): CodedError {
  return new CodedError('MANIFEST_SYNTAX', { message });
}
