import { CodedError } from '@sepia/base/errors';
import { type ByteString, bytesOf, textOf } from '../tar/byte-string.ts';
import { ByteReader, invalidIndex } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import type { LayerEntry, LayerEntryType } from './layer-entry.ts';

/** Numbers of the types in an index; they never change. */
const TYPES: readonly LayerEntryType[] = [
  'file',
  'hardlink',
  'symlink',
  'char',
  'block',
  'directory',
  'fifo',
];
const COLUMNS = [
  'path',
  'type',
  'mode',
  'uid',
  'gid',
  'mtime',
  'nsec',
  'gap',
  'size',
  'link',
  'device',
  'xattr',
  'xattrSets',
] as const;
const MAX_PATH_BYTES = 65_536;
/** Longer ones are opened by no system (Linux `PATH_MAX`), so that nobody unpacks them. */
const MAX_OPENED_BYTES = 4095;
const MAX_U32 = 2 ** 32 - 1;
const MAX_NSEC = 999_999_999;
/** So that the difference of any two fits a number of the index. */
const MAX_SEC = 2 ** 51 - 1;
const BLOCK = 512;

type Column = (typeof COLUMNS)[number];

/**
 * Entries as columns (docs/adr, "The layer index"): what is alike lies together, so that it compresses well.
 * @throws {CodedError} `LAYER_NOT_LAZY` for one that {@link decodeEntries} would not give back
 */
export function encodeEntries(entries: readonly LayerEntry[]): Buffer {
  const columns = Object.fromEntries(COLUMNS.map((name) => [name, new ByteWriter()])) as Record<
    Column,
    ByteWriter
  >;
  const sets = new Map<string, number>();
  let path = '';
  let mtime = 0;
  let end = 0;
  for (const entry of entries) {
    checkRange(entry);
    const shared = sharedLength(path, entry.path);
    columns.path.varint(shared);
    putBytes(columns.path, entry.path.slice(shared) as ByteString);
    path = entry.path;
    columns.type.byte(TYPES.indexOf(entry.type));
    columns.mode.varint(entry.mode);
    columns.uid.varint(entry.uid);
    columns.gid.varint(entry.gid);
    columns.mtime.signed(entry.mtimeSec - mtime);
    mtime = entry.mtimeSec;
    columns.nsec.varint(entry.mtimeNsec);
    if (entry.type === 'file') {
      columns.gap.signed(entry.offset - end);
      columns.size.varint(entry.size);
      end = entry.offset + Math.ceil(entry.size / BLOCK) * BLOCK;
    }
    if (entry.type === 'hardlink' || entry.type === 'symlink') putBytes(columns.link, entry.link);
    if (entry.type === 'char' || entry.type === 'block') {
      columns.device.varint(entry.devMajor);
      columns.device.varint(entry.devMinor);
    }
    columns.xattr.varint(entry.xattrs.size === 0 ? 0 : setNumber(entry.xattrs, sets, columns.xattrSets));
  }
  const all = new ByteWriter();
  for (const name of COLUMNS) {
    const bytes = columns[name].done();
    all.varint(bytes.length);
    all.raw(bytes);
  }
  return all.done();
}

function checkRange({ type, path, link, mtimeSec, mtimeNsec, devMajor, devMinor }: LayerEntry): void {
  const isIn =
    path.length <= MAX_OPENED_BYTES &&
    (type !== 'hardlink' || link.length <= MAX_OPENED_BYTES) &&
    Math.abs(mtimeSec) <= MAX_SEC &&
    mtimeNsec <= MAX_NSEC &&
    devMajor >= 0 &&
    devMinor >= 0;
  if (!isIn)
    throw new CodedError('LAYER_NOT_LAZY', {
      detail: { reason: 'entry-out-of-range', path: textOf(path.slice(0, 200) as ByteString) },
    });
}

/** The `count` entries of a layer, in its order. @throws {CodedError} `INDEX_INVALID` */
export function decodeEntries(bytes: Buffer, count: number): LayerEntry[] {
  const all = new ByteReader(bytes);
  const columns = Object.fromEntries(
    COLUMNS.map((name) => [name, new ByteReader(all.raw(all.varint(all.left)))]),
  ) as Record<Column, ByteReader>;
  all.end();
  const sets = readSets(columns.xattrSets);
  const entries: LayerEntry[] = [];
  const state = { path: '' as ByteString, mtime: 0, end: 0 };
  for (let index = 0; index < count; index++) entries.push(readEntry(columns, sets, state));
  for (const name of COLUMNS) columns[name].end();
  return entries;
}

function readEntry(
  columns: Record<Column, ByteReader>,
  sets: readonly ReadonlyMap<ByteString, Uint8Array>[],
  state: { path: ByteString; mtime: number; end: number },
): LayerEntry {
  const shared = columns.path.varint(state.path.length);
  const rest = takeBytes(columns.path);
  if (shared + rest.length > MAX_PATH_BYTES) invalidIndex('a path is too long');
  state.path = (state.path.slice(0, shared) + rest) as ByteString;
  const type = TYPES[columns.type.byte()] ?? invalidIndex('unknown type of entry');
  state.mtime += columns.mtime.signed();
  const isFile = type === 'file';
  const offset = isFile ? state.end + columns.gap.signed() : 0;
  const size = isFile ? columns.size.varint() : 0;
  if (isFile) state.end = offset + Math.ceil(size / BLOCK) * BLOCK;
  const isSafe =
    Number.isSafeInteger(state.mtime) && Number.isSafeInteger(offset) && Number.isSafeInteger(offset + size);
  if (!isSafe) invalidIndex('a number is too large');
  const isDevice = type === 'char' || type === 'block';
  return {
    type,
    path: state.path,
    link: type === 'hardlink' || type === 'symlink' ? takeBytes(columns.link) : ('' as ByteString),
    mode: columns.mode.varint(0o7777),
    uid: columns.uid.varint(MAX_U32),
    gid: columns.gid.varint(MAX_U32),
    mtimeSec: state.mtime,
    mtimeNsec: columns.nsec.varint(MAX_NSEC),
    devMajor: isDevice ? columns.device.varint() : 0,
    devMinor: isDevice ? columns.device.varint() : 0,
    xattrs: sets[columns.xattr.varint(sets.length - 1)]!,
    offset,
    size,
  };
}

/** The number of a set of xattrs; a new set is written. 0 means none. */
function setNumber(
  xattrs: ReadonlyMap<ByteString, Uint8Array>,
  known: Map<string, number>,
  column: ByteWriter,
): number {
  const set = new ByteWriter();
  set.varint(xattrs.size);
  for (const [name, value] of xattrs) {
    putBytes(set, name);
    set.varint(value.length);
    set.raw(value);
  }
  const key = set.done().toString('latin1');
  const found = known.get(key);
  if (found !== undefined) return found;
  known.set(key, known.size + 1);
  column.raw(set.done());
  return known.size;
}

function readSets(column: ByteReader): ReadonlyMap<ByteString, Uint8Array>[] {
  const sets: ReadonlyMap<ByteString, Uint8Array>[] = [new Map()];
  while (column.left > 0) {
    const set = new Map<ByteString, Uint8Array>();
    for (let left = column.varint(column.left); left > 0; left--) {
      const name = takeBytes(column);
      set.set(name, Buffer.from(column.raw(column.varint(column.left))));
    }
    sets.push(set);
  }
  return sets;
}

function putBytes(writer: ByteWriter, bytes: ByteString): void {
  writer.varint(bytes.length);
  writer.raw(bytesOf(bytes));
}

function takeBytes(reader: ByteReader): ByteString {
  return reader.text(reader.varint(reader.left));
}

function sharedLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a.charCodeAt(length) === b.charCodeAt(length)) length += 1;
  return length;
}
