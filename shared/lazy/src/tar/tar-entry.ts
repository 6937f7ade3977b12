import type { ByteString } from './byte-string.ts';

/** What a tar entry is; `other` is a type that images do not use (see `typeFlag`). */
export type TarEntryType =
  | 'file'
  | 'hardlink'
  | 'symlink'
  | 'char'
  | 'block'
  | 'directory'
  | 'fifo'
  | 'other';

/** One entry of a tar archive, extended headers applied. Offsets are bytes from the archive's start. */
export interface TarEntry {
  readonly type: TarEntryType;
  /** The type flag as it is in the header, as one character (`\0` and `0` are files). */
  readonly typeFlag: string;
  /** The name as it is in the archive, without a change (see {@link cleanPath}). */
  readonly name: ByteString;
  /** Target of a hard link (a name in the archive) or of a symbolic link (any text); else empty. */
  readonly linkName: ByteString;
  /** Permission bits, set-uid, set-gid, sticky: 12 bits, no type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly userName: ByteString;
  readonly groupName: ByteString;
  /** Whole seconds since 1970, may be negative; {@link mtimeNsec} (0…999,999,999) is added. */
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Extended attributes (`SCHILY.xattr.*`): full name, value. In the order of the archive. */
  readonly xattrs: ReadonlyMap<ByteString, Uint8Array>;
  /** Where the first block of this entry is, its own extended headers included (global ones are not its own). */
  readonly headerOffset: number;
  /** Where the bytes of the content begin: a multiple of 512. */
  readonly payloadOffset: number;
  /** Length of the content; 0 for everything but `file` and `other`, whatever the header says. */
  readonly size: number;
  /** True for every form of GNU sparse file: its content is not the payload, so it cannot be read by offset. */
  readonly sparse: boolean;
  /** True if a global extended header changed this entry: its own header blocks do not say all. */
  readonly usesGlobals: boolean;
  /** True if its header blocks say no more than these fields, and every reader of tars takes them the same way. */
  readonly isPlain: boolean;
}

/** Where the entry's last block ends: the next one begins here. */
export function endOfEntry(entry: TarEntry): number {
  return entry.payloadOffset + Math.ceil(entry.size / 512) * 512;
}

/**
 * A name as the path it means below the root of the layer: no leading, doubled or trailing `/`, no `.` parts, `..` goes
 * up but never above the root. The root itself is the empty string.
 */
export function cleanPath(name: ByteString): ByteString {
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/') as ByteString;
}
