import { type ByteString, byteString, bytesOf } from '../tar/byte-string.ts';

/** Prefixes by their number in EROFS (`EROFS_XATTR_INDEX_*` of Linux's `erofs_fs.h`). */
const PREFIXES: readonly { prefix: string; index: number; isWhole: boolean }[] = [
  { prefix: 'user.', index: 1, isWhole: false },
  { prefix: 'system.posix_acl_access', index: 2, isWhole: true },
  { prefix: 'system.posix_acl_default', index: 3, isWhole: true },
  { prefix: 'trusted.', index: 4, isWhole: false },
  { prefix: 'security.', index: 6, isWhole: false },
];
/** Marks of overlayfs: a layer that brought its own could point into other layers. Ours come from whiteouts. */
export const OVERLAY_MARKS = 'trusted.overlay.';
const HEADER_BYTES = 12;
const ENTRY_BYTES = 4;
const SHARED_COUNT_AT = 4;
const MAX_NAME_BYTES = 255;
const MAX_VALUE_BYTES = 65_535;
/** `i_xattr_icount` has 16 bits and counts 4 bytes each. */
const MAX_BYTES = HEADER_BYTES + 4 * 65_534;

/**
 * The xattrs that a mounted layer shows. Names of other kinds are left out, as a file system that does not have them
 * answers "not supported" and container engines go on; so are overlayfs' own marks.
 * @param refuse called, with a reason, for what Linux itself could not set
 */
export function checkXattrs(
  xattrs: ReadonlyMap<ByteString, Uint8Array>,
  refuse: (reason: string) => never,
): Map<ByteString, Uint8Array> {
  const kept = new Map<ByteString, Uint8Array>();
  for (const [name, value] of xattrs) {
    if (name.startsWith(OVERLAY_MARKS) || prefixOf(name) === undefined) continue;
    if (name.length > MAX_NAME_BYTES || name.endsWith('.') || name.includes('\0'))
      refuse('xattr-name-not-possible');
    if (value.length > MAX_VALUE_BYTES) refuse('xattr-value-too-long');
    kept.set(name, value);
  }
  if (xattrBytes(kept) > MAX_BYTES - 64) refuse('xattrs-too-long');
  return kept;
}

/** Bytes that the xattrs take behind an inode. */
export function xattrBytes(xattrs: ReadonlyMap<ByteString, Uint8Array>): number {
  if (xattrs.size === 0) return 0;
  let bytes = HEADER_BYTES;
  for (const [name, value] of xattrs)
    bytes += align4(ENTRY_BYTES + name.length - prefixOf(name)!.prefix.length + value.length);
  return bytes;
}

/** `i_xattr_icount` for that many bytes. */
export function xattrCount(bytes: number): number {
  return bytes === 0 ? 0 : (bytes - HEADER_BYTES) / 4 + 1;
}

/** Writes them: 12 bytes of zeros (no filter, nothing shared), then entries, sorted by name. */
export function writeXattrs(
  target: Buffer,
  start: number,
  xattrs: ReadonlyMap<ByteString, Uint8Array>,
): void {
  let at = start + HEADER_BYTES;
  for (const name of [...xattrs.keys()].sort()) {
    const value = xattrs.get(name)!;
    const { prefix, index } = prefixOf(name)!;
    const rest = bytesOf(name.slice(prefix.length) as ByteString);
    target.writeUInt8(rest.length, at);
    target.writeUInt8(index, at + 1);
    target.writeUInt16LE(value.length, at + 2);
    target.set(rest, at + ENTRY_BYTES);
    target.set(value, at + ENTRY_BYTES + rest.length);
    at += align4(ENTRY_BYTES + rest.length + value.length);
  }
}

/** Reads the xattrs behind an inode. @throws what `bad` makes of what is none */
export function readXattrs(bytes: Buffer, bad: (what: string) => Error): Map<ByteString, Uint8Array> {
  const found = new Map<ByteString, Uint8Array>();
  if (bytes.length === 0) return found;
  if (bytes[SHARED_COUNT_AT] !== 0) throw bad('an inode has shared xattrs');
  for (let at = HEADER_BYTES; at < bytes.length; ) {
    const nameBytes = bytes.readUInt8(at);
    const index = bytes.readUInt8(at + 1);
    const valueBytes = bytes.readUInt16LE(at + 2);
    const prefix = PREFIXES.find((one) => one.index === index);
    const value = at + ENTRY_BYTES + nameBytes;
    if (prefix === undefined || value + valueBytes > bytes.length || (prefix.isWhole && nameBytes > 0))
      throw bad('an inode has a broken xattr');
    const name = `${prefix.prefix}${byteString(bytes.subarray(at + ENTRY_BYTES, value))}` as ByteString;
    if (found.has(name)) throw bad('an inode has an xattr twice');
    found.set(name, Buffer.from(bytes.subarray(value, value + valueBytes)));
    at = align4(value + valueBytes);
  }
  return found;
}

function prefixOf(name: ByteString): { prefix: string; index: number } | undefined {
  return PREFIXES.find(({ prefix, isWhole }) => (isWhole ? name === prefix : name.startsWith(prefix)));
}

function align4(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}
