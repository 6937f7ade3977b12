import { CodedError } from '@sepia/base/errors';
import { type ByteString, byteString, bytesOf } from '../tar/byte-string.ts';
import type { Extents } from './extents.ts';
import type { TreeNode } from './layer-tree.ts';
import { writeXattrs, xattrBytes, xattrCount } from './xattrs.ts';

export const EROFS_BLOCK = 4096;
/** Raised whenever the same tree would give another image: images outlive the process that made them. */
export const EROFS_LAYOUT = 1;
const SUPERBLOCK_AT = 1024;
const SUPERBLOCK_BYTES = 128;
const MAGIC = 0xe0f5e1e2;
/** "Inodes have mtimes" (`EROFS_FEATURE_COMPAT_MTIME`). */
const COMPAT_MTIME = 2;
const BLOCK_BITS = 12;
const SLOT = 32;
const INODE_BYTES = 64;
const DIRENT_BYTES = 12;
const FLAT_PLAIN = 0;
const FLAT_INLINE = 2;
const MAX_BLOCKS = 2 ** 32 - 1;
/** Xattrs longer than this leave no room for data behind an inode. */
const MAX_INLINE_XATTRS = 2048;

/** `S_IFMT` bits and the type in directory entries. */
const KINDS: Readonly<Record<TreeNode['type'], { mode: number; dirent: number }>> = {
  file: { mode: 0o100000, dirent: 1 },
  directory: { mode: 0o040000, dirent: 2 },
  char: { mode: 0o020000, dirent: 3 },
  block: { mode: 0o060000, dirent: 4 },
  fifo: { mode: 0o010000, dirent: 5 },
  symlink: { mode: 0o120000, dirent: 7 },
};
const DOT = byteString(Buffer.from('.'));
const DOT_DOT = byteString(Buffer.from('..'));

/** An EROFS image without the content of its files: that lies, block by block, behind `meta`. */
export interface ErofsImage {
  /** Superblock, inodes, directories: the first bytes of the image, whole blocks. */
  readonly meta: Buffer;
  /** Length of the whole image. */
  readonly sizeBytes: number;
  readonly extents: Extents;
  readonly inodes: number;
}

export interface ErofsOptions {
  /** 16 bytes; the same tree and uuid give the same image. */
  readonly uuid: Uint8Array;
}

interface Inode {
  readonly node: TreeNode;
  readonly parent: Inode | undefined;
  readonly number: number;
  links: number;
  readonly xattrBytes: number;
  /** Of a directory: names in order, and where in that list each block begins. */
  names: ByteString[];
  blocks: number[];
  /** What follows the inode directly. */
  inlineBytes: number;
  size: number;
  position: number;
  firstBlock: number;
}

/**
 * Encodes a layer's tree as EROFS (Linux `fs/erofs/erofs_fs.h`): 4 KiB blocks, extended inodes, flat data, no
 * compression, one device. Small directories and links lie behind their inodes; every file begins at a block, in the
 * order of the layer, so that reading ahead in the image reads ahead in the layer.
 *
 * ```
 * 0      1024  zeros
 * 1024    128  superblock
 * 1152         inodes, each with its xattrs and inline data, none across a block; root first (nid 36)
 * ↑4096        blocks of directories and links that are not inline
 *              content of files (extents), each from a whole block on
 * ```
 * @throws {CodedError} `LAYER_NOT_LAZY` for a layer of more than 16 TiB
 */
export function encodeErofs(root: TreeNode, options: ErofsOptions): ErofsImage {
  const byNode = new Map<TreeNode, Inode>();
  const inodes = collect(root, byNode);
  for (const inode of inodes) plan(inode);
  let position = SUPERBLOCK_AT + SUPERBLOCK_BYTES;
  for (const inode of inodes) position = place(inode, position);
  let block = Math.ceil(position / EROFS_BLOCK);
  for (const inode of inodes) {
    const blocks = Math.ceil((inode.size - inode.inlineBytes) / EROFS_BLOCK);
    if (inode.node.type === 'file' || blocks === 0) continue;
    inode.firstBlock = block;
    block += blocks;
  }
  const metaBytes = block * EROFS_BLOCK;
  const files = inodes.filter((one) => one.size > 0 && one.node.type === 'file');
  files.sort((a, b) => a.node.offset - b.node.offset || a.number - b.number);
  for (const inode of files) {
    inode.firstBlock = block;
    block += Math.ceil(inode.size / EROFS_BLOCK);
  }
  if (block > MAX_BLOCKS) throw new CodedError('LAYER_NOT_LAZY', { detail: { reason: 'too-large' } });
  const meta = Buffer.alloc(metaBytes);
  writeSuperblock(meta, { inodes: inodes.length, blocks: block, uuid: options.uuid });
  for (const inode of inodes) writeInode(meta, inode, byNode);
  return {
    meta,
    sizeBytes: block * EROFS_BLOCK,
    extents: {
      image: Float64Array.from(files, (one) => one.firstBlock * EROFS_BLOCK),
      layer: Float64Array.from(files, (one) => one.node.offset),
      length: Float64Array.from(files, (one) => one.size),
    },
    inodes: inodes.length,
  };
}

/** All inodes, directories before what they hold, names in byte order. Depth is not limited by the stack. */
function collect(root: TreeNode, byNode: Map<TreeNode, Inode>): Inode[] {
  const inodes: Inode[] = [];
  const open: { node: TreeNode; parent: Inode | undefined }[] = [{ node: root, parent: undefined }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { node, parent } = next;
    const known = byNode.get(node);
    if (known !== undefined) {
      known.links += 1;
      continue;
    }
    const inode = newInode(node, parent, inodes.length + 1);
    byNode.set(node, inode);
    inodes.push(inode);
    if (node.children === undefined) continue;
    if (parent !== undefined) parent.links += 1;
    const names = [...node.children.keys()].sort();
    for (const name of names.toReversed()) open.push({ node: node.children.get(name)!, parent: inode });
    inode.names = [DOT, DOT_DOT, ...names].sort();
  }
  return inodes;
}

function newInode(node: TreeNode, parent: Inode | undefined, number: number): Inode {
  return {
    ...{ node, parent, number, links: node.children === undefined ? 1 : 2 },
    xattrBytes: xattrBytes(node.xattrs),
    ...{ names: [], blocks: [], inlineBytes: 0, size: node.size, position: 0, firstBlock: 0 },
  };
}

/** Decides sizes and what lies inline. */
function plan(inode: Inode): void {
  if (inode.node.type === 'symlink') inode.size = inode.node.link.length;
  if (inode.node.type === 'directory') inode.size = planDirectory(inode);
  if (inode.node.type !== 'symlink' && inode.node.type !== 'directory') return;
  const tail = inode.size % EROFS_BLOCK;
  const isInline = tail > 0 && inode.xattrBytes <= MAX_INLINE_XATTRS;
  if (isInline && INODE_BYTES + inode.xattrBytes + tail <= EROFS_BLOCK) inode.inlineBytes = tail;
}

/** Fills blocks with entries: none crosses a block. @returns the directory's size */
function planDirectory(inode: Inode): number {
  let used = EROFS_BLOCK;
  for (const [index, name] of inode.names.entries()) {
    const need = DIRENT_BYTES + name.length;
    if (used + need > EROFS_BLOCK) {
      inode.blocks.push(index);
      used = 0;
    }
    used += need;
  }
  return (inode.blocks.length - 1) * EROFS_BLOCK + used;
}

/** Finds the inode's place from `position` on; what fits a block crosses none. @returns where it ends */
function place(inode: Inode, position: number): number {
  const bytes = INODE_BYTES + inode.xattrBytes + inode.inlineBytes;
  const start = Math.ceil(position / SLOT) * SLOT;
  const left = EROFS_BLOCK - (start % EROFS_BLOCK);
  const mustMove = left < Math.min(bytes, EROFS_BLOCK);
  inode.position = mustMove ? start + left : start;
  return inode.position + bytes;
}

function writeSuperblock(meta: Buffer, facts: { inodes: number; blocks: number; uuid: Uint8Array }): void {
  const at = SUPERBLOCK_AT;
  meta.writeUInt32LE(MAGIC, at);
  meta.writeUInt32LE(COMPAT_MTIME, at + 8);
  meta.writeUInt8(BLOCK_BITS, at + 12);
  meta.writeUInt16LE((SUPERBLOCK_AT + SUPERBLOCK_BYTES) / SLOT, at + 14);
  writeU64(meta, at + 16, facts.inodes);
  meta.writeUInt32LE(facts.blocks, at + 36);
  meta.set(facts.uuid.subarray(0, 16), at + 48);
}

function writeInode(meta: Buffer, inode: Inode, byNode: ReadonlyMap<TreeNode, Inode>): void {
  const { node, position } = inode;
  const layout = inode.inlineBytes > 0 ? FLAT_INLINE : FLAT_PLAIN;
  meta.writeUInt16LE(1 | (layout << 1), position);
  meta.writeUInt16LE(xattrCount(inode.xattrBytes), position + 2);
  meta.writeUInt16LE(KINDS[node.type].mode | node.mode, position + 4);
  writeU64(meta, position + 8, inode.size);
  meta.writeUInt32LE(placeOf(inode), position + 16);
  meta.writeUInt32LE(inode.number, position + 20);
  meta.writeUInt32LE(node.uid, position + 24);
  meta.writeUInt32LE(node.gid, position + 28);
  meta.writeBigInt64LE(BigInt(node.mtimeSec), position + 32);
  meta.writeUInt32LE(node.mtimeNsec, position + 40);
  meta.writeUInt32LE(inode.links, position + 44);
  if (inode.xattrBytes > 0) writeXattrs(meta, position + INODE_BYTES, node.xattrs);
  if (node.type === 'symlink') meta.set(bytesOf(node.link), dataAt(inode, 0));
  if (node.type === 'directory') writeDirectory(meta, inode, byNode);
}

/** `i_u`: first block of data, or a device's number (Linux `new_encode_dev`). */
function placeOf({ node, firstBlock }: Inode): number {
  if (node.type !== 'char' && node.type !== 'block') return firstBlock;
  return ((node.devMinor & 0xff) | (node.devMajor << 8) | ((node.devMinor & ~0xff) << 12)) >>> 0;
}

/** Where block `index` of an inode's data lies; the last one may be inline. */
function dataAt(inode: Inode, index: number): number {
  const isLast = (index + 1) * EROFS_BLOCK > inode.size;
  if (isLast && inode.inlineBytes > 0) return inode.position + INODE_BYTES + inode.xattrBytes;
  return (inode.firstBlock + index) * EROFS_BLOCK;
}

/** Each block: entries `{u64 nid, u16 where its name is, u8 type, u8 0}`, then the names without an end. */
function writeDirectory(meta: Buffer, inode: Inode, byNode: ReadonlyMap<TreeNode, Inode>): void {
  for (const [index, first] of inode.blocks.entries()) {
    const names = inode.names.slice(first, inode.blocks[index + 1]);
    const start = dataAt(inode, index);
    let nameAt = names.length * DIRENT_BYTES;
    for (const [slot, name] of names.entries()) {
      const child = childOf(inode, name, byNode);
      const at = start + slot * DIRENT_BYTES;
      writeU64(meta, at, child.position / SLOT);
      meta.writeUInt16LE(nameAt, at + 8);
      meta.writeUInt8(KINDS[child.node.type].dirent, at + 10);
      meta.write(name, start + nameAt, 'latin1');
      nameAt += name.length;
    }
  }
}

function childOf(inode: Inode, name: ByteString, byNode: ReadonlyMap<TreeNode, Inode>): Inode {
  if (name === DOT) return inode;
  if (name === DOT_DOT) return inode.parent ?? inode;
  return byNode.get(inode.node.children!.get(name)!)!;
}

function writeU64(target: Buffer, at: number, value: number): void {
  target.writeUInt32LE(value % 2 ** 32, at);
  target.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}
