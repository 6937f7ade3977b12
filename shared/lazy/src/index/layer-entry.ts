import { notLazy } from '../not-lazy.ts';
import type { ByteString } from '../tar/byte-string.ts';
import { cleanPath, type TarEntry, type TarEntryType } from '../tar/tar-entry.ts';

/** What can be mounted; a layer with an entry of another type is not lazy. */
export type LayerEntryType = Exclude<TarEntryType, 'other'>;

/** One entry of a layer as it counts for mounting: what an index keeps, and what an eStargz TOC says too. */
export interface LayerEntry {
  readonly type: LayerEntryType;
  /** Below the layer's root, clean; the root itself is empty. */
  readonly path: ByteString;
  /** Of a hard link the clean path, of a symbolic link the text; else empty. */
  readonly link: ByteString;
  /** 12 bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly xattrs: ReadonlyMap<ByteString, Uint8Array>;
  /** Where the content begins in the uncompressed layer; 0 for everything but files. */
  readonly offset: number;
  /** Length of a file's content; else 0. */
  readonly size: number;
}

/**
 * Longer ones are opened by no system, and V8 tells them apart by reading them only: to find one among thousands of one
 * length takes minutes.
 */
export const MAX_NAME_BYTES = 16_383;

/**
 * A tar entry as a layer's entry.
 * @throws {CodedError} `LAYER_NOT_LAZY` for sparse files, types that images do not have, owners beyond 32 bits and names beyond
 * {@link MAX_NAME_BYTES}
 */
export function layerEntry(entry: TarEntry): LayerEntry {
  if (entry.sparse) notLazy('sparse-file', entry.name);
  if (entry.type === 'other') notLazy('unknown-entry-type', entry.name);
  if (!isOwner(entry.uid) || !isOwner(entry.gid)) notLazy('owner-out-of-range', entry.name);
  const linkBytes = entry.type === 'hardlink' ? entry.linkName.length : 0;
  if (Math.max(entry.name.length, linkBytes) > MAX_NAME_BYTES)
    notLazy('name-not-possible', entry.name.slice(0, 200) as ByteString);
  const link = entry.type === 'hardlink' ? cleanPath(entry.linkName) : entry.linkName;
  const hasLink = entry.type === 'hardlink' || entry.type === 'symlink';
  const { type, mode, uid, gid, mtimeSec, mtimeNsec, devMajor, devMinor, xattrs, size } = entry;
  return {
    type,
    path: cleanPath(entry.name),
    link: hasLink ? link : ('' as ByteString),
    ...{ mode, uid, gid, mtimeSec, mtimeNsec, devMajor, devMinor, xattrs },
    offset: type === 'file' ? entry.payloadOffset : 0,
    size: type === 'file' ? size : 0,
  };
}

function isOwner(id: number): boolean {
  return id >= 0 && id < 2 ** 32;
}
