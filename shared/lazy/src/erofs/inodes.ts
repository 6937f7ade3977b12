import { type ByteString, byteString, bytesOf } from '../tar/byte-string.ts';
import type { TreeNode } from './layer-tree.ts';
import { writeXattrs, xattrBytes, xattrCount } from './xattrs.ts';

/** Bytes of a block; kernels mount images whose blocks are no longer than their pages. */
export const EROFS_BLOCK = 4096;
/** Begins the superblock, little endian (Linux `fs/erofs/erofs_fs.h`). */
export const EROFS_MAGIC = 0xe0f5e1e2;
/** Bytes of a slot of inodes: an inode's number is its offset from their beginning, in slots. */
export const EROFS_SLOT = 32;
/** An extended inode. */
export const INODE_BYTES = 64;
/** A directory entry without its name. */
export const DIRENT_BYTES = 12;
/** How an inode's data lies: `i_format` (Linux `fs/erofs/erofs_fs.h`). */
export const LAYOUT = { flatPlain: 0, flatInline: 2, chunkBased: 4 } as const;
/** Xattrs longer than this leave no room for data behind an inode. */
const MAX_INLINE_XATTRS = 2048;

/** `S_IFMT` bits and the type in directory entries. */
export const KINDS: Readonly<Record<TreeNode['type'], { mode: number; dirent: number }>> = {
  file: { mode: 0o100000, dirent: 1 },
  directory: { mode: 0o040000, dirent: 2 },
  char: { mode: 0o020000, dirent: 3 },
  block: { mode: 0o060000, dirent: 4 },
  fifo: { mode: 0o010000, dirent: 5 },
  symlink: { mode: 0o120000, dirent: 7 },
};
const DOT = byteString(Buffer.from('.'));
const DOT_DOT = byteString(Buffer.from('..'));

const NO_NAMES: readonly ByteString[] = [];
const NO_BLOCKS: readonly number[] = [];

/** A file whose content lies in chunks on other devices: its 8-byte chunk indexes and its chunk format. */
export interface ChunkIndexes {
  readonly indexes: Uint8Array;
  /** `i_u` of the inode. */
  readonly format: number;
}

/** Where inodes go in an image. */
export interface InodeRoom {
  /** What inode numbers count from: a whole block. */
  readonly base: number;
  /** Where the first inode may begin. */
  readonly from: number;
  /** Chunks of a file; left out: files have their content in whole blocks of the image (`firstBlock`). */
  readonly chunksOf?: (file: TreeNode) => ChunkIndexes;
}

/**
 * A node of the tree with its place in the image: fields that are not readonly are known one after the other,
 * as it is laid out.
 */
export interface Inode {
  readonly node: TreeNode;
  readonly parent: Inode | undefined;
  readonly number: number;
  links: number;
  readonly xattrBytes: number;
  /** Of a directory: names in order, and where in that list each block begins. */
  names: readonly ByteString[];
  blocks: readonly number[];
  /** What follows the inode directly. */
  inlineBytes: number;
  size: number;
  position: number;
  firstBlock: number;
  readonly chunks: ChunkIndexes | undefined;
}

/** Inodes in their places. */
export interface LaidInodes {
  /** Directories before what they hold; the root first. */
  readonly inodes: readonly Inode[];
  /** The first block behind inodes and directories. */
  readonly endBlock: number;
  nidOf(node: TreeNode): number;
  /** Writes inodes, xattrs, directories, link targets and chunk indexes; `firstBlock` of files must be known. */
  write(image: Buffer): void;
}

/**
 * Gives each inode of a tree its place: one after the other, each with its xattrs and inline data, none across a block that
 * fits one; then blocks of directories and links that are not inline.
 */
export function layInodes(root: TreeNode, room: InodeRoom): LaidInodes {
  const inodes = collect(root, room.chunksOf);
  for (const inode of inodes) plan(inode);
  let position = room.from;
  for (const inode of inodes) position = place(inode, position);
  let block = Math.ceil(position / EROFS_BLOCK);
  for (const inode of inodes) {
    const blocks = Math.ceil((inode.size - inode.inlineBytes) / EROFS_BLOCK);
    if (inode.node.type === 'file' || blocks === 0) continue;
    inode.firstBlock = block;
    block += blocks;
  }
  const nidOf = (node: TreeNode): number => {
    const inode = inodes[node.turn];
    if (inode?.node !== node) throw new TypeError('a node of another tree, or laid out again since');
    return (inode.position - room.base) / EROFS_SLOT;
  };
  const write = (image: Buffer): void => {
    for (const inode of inodes) writeInode(image, inode, nidOf);
  };
  return { inodes, endBlock: block, nidOf, write };
}

/** All inodes, directories before what they hold, names in byte order. Depth is not limited by the stack. */
function collect(root: TreeNode, chunksOf: InodeRoom['chunksOf']): readonly Inode[] {
  const inodes: Inode[] = [];
  const open: TreeNode[] = [root];
  const parents: (Inode | undefined)[] = [undefined];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    const parent = parents.pop();
    const known = inodes[node.turn];
    if (known?.node === node) {
      known.links += 1;
      continue;
    }
    const chunks = node.type === 'file' ? chunksOf?.(node) : undefined;
    node.turn = inodes.length;
    const inode = newInode(node, parent, inodes.length + 1, chunks);
    inodes.push(inode);
    if (node.children === undefined) continue;
    if (parent !== undefined) parent.links += 1;
    const names = [DOT, DOT_DOT, ...node.children.keys()].sort();
    inode.names = names;
    for (let at = names.length - 1; at >= 0; at--) {
      const child = node.children.get(names[at]!);
      if (child === undefined) continue;
      open.push(child);
      parents.push(inode);
    }
  }
  return inodes;
}

function newInode(
  node: TreeNode,
  parent: Inode | undefined,
  number: number,
  chunks: ChunkIndexes | undefined,
): Inode {
  // One literal: of a hundred thousand inodes a spread makes as many objects more.
  return {
    node,
    parent,
    number,
    chunks,
    links: node.children === undefined ? 1 : 2,
    xattrBytes: xattrBytes(node.xattrs),
    names: NO_NAMES,
    blocks: NO_BLOCKS,
    inlineBytes: 0,
    size: node.size,
    position: 0,
    firstBlock: 0,
  };
}

/** Decides sizes and what lies inline. */
function plan(inode: Inode): void {
  if (inode.chunks !== undefined) inode.inlineBytes = chunksFrom(inode) + inode.chunks.indexes.length;
  if (inode.node.type === 'symlink') inode.size = inode.node.link.length;
  if (inode.node.type === 'directory') inode.size = planDirectory(inode);
  if (inode.node.type !== 'symlink' && inode.node.type !== 'directory') return;
  const tail = inode.size % EROFS_BLOCK;
  const isInline = tail > 0 && inode.xattrBytes <= MAX_INLINE_XATTRS;
  if (isInline && INODE_BYTES + inode.xattrBytes + tail <= EROFS_BLOCK) inode.inlineBytes = tail;
}

/** Bytes between the xattrs and the chunk indexes, which are aligned to 8. */
function chunksFrom({ xattrBytes: bytes }: Inode): number {
  return bytes % 8 === 0 ? 0 : 8 - (bytes % 8);
}

/** Fills blocks with entries: none crosses a block. @returns the directory's size */
function planDirectory(inode: Inode): number {
  const blocks: number[] = [];
  let used = EROFS_BLOCK;
  for (let index = 0; index < inode.names.length; index++) {
    const need = DIRENT_BYTES + inode.names[index]!.length;
    if (used + need > EROFS_BLOCK) {
      blocks.push(index);
      used = 0;
    }
    used += need;
  }
  inode.blocks = blocks;
  return (blocks.length - 1) * EROFS_BLOCK + used;
}

/** Finds the inode's place from `position` on; what fits a block crosses none. @returns where it ends */
function place(inode: Inode, position: number): number {
  const bytes = INODE_BYTES + inode.xattrBytes + inode.inlineBytes;
  const start = Math.ceil(position / EROFS_SLOT) * EROFS_SLOT;
  const left = EROFS_BLOCK - (start % EROFS_BLOCK);
  const mustMove = left < Math.min(bytes, EROFS_BLOCK);
  inode.position = mustMove ? start + left : start;
  return inode.position + bytes;
}

function writeInode(image: Buffer, inode: Inode, nidOf: (node: TreeNode) => number): void {
  const { node, position, chunks } = inode;
  image.writeUInt16LE(1 | (layoutOf(inode) << 1), position);
  image.writeUInt16LE(xattrCount(inode.xattrBytes), position + 2);
  image.writeUInt16LE(KINDS[node.type].mode | node.mode, position + 4);
  writeU64(image, position + 8, inode.size);
  image.writeUInt32LE(chunks?.format ?? placeOf(inode), position + 16);
  image.writeUInt32LE(inode.number, position + 20);
  image.writeUInt32LE(node.uid, position + 24);
  image.writeUInt32LE(node.gid, position + 28);
  writeI64(image, position + 32, node.mtimeSec);
  image.writeUInt32LE(node.mtimeNsec, position + 40);
  image.writeUInt32LE(inode.links, position + 44);
  const behind = position + INODE_BYTES;
  if (inode.xattrBytes > 0) writeXattrs(image, behind, node.xattrs);
  if (chunks !== undefined) image.set(chunks.indexes, behind + inode.xattrBytes + chunksFrom(inode));
  if (node.type === 'symlink') image.set(bytesOf(node.link), dataAt(inode, 0));
  if (node.type === 'directory') writeDirectory(image, inode, nidOf);
}

function layoutOf({ chunks, inlineBytes }: Inode): number {
  if (chunks !== undefined) return LAYOUT.chunkBased;
  return inlineBytes > 0 ? LAYOUT.flatInline : LAYOUT.flatPlain;
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
function writeDirectory(image: Buffer, inode: Inode, nidOf: (node: TreeNode) => number): void {
  for (let index = 0; index < inode.blocks.length; index++) {
    const first = inode.blocks[index]!;
    const end = inode.blocks[index + 1] ?? inode.names.length;
    const start = dataAt(inode, index);
    let nameAt = (end - first) * DIRENT_BYTES;
    for (let number = first; number < end; number++) {
      const name = inode.names[number]!;
      const child = childOf(inode, name);
      const at = start + (number - first) * DIRENT_BYTES;
      writeU64(image, at, nidOf(child));
      image.writeUInt16LE(nameAt, at + 8);
      image.writeUInt8(KINDS[child.type].dirent, at + 10);
      image.write(name, start + nameAt, 'latin1');
      nameAt += name.length;
    }
  }
}

function childOf(inode: Inode, name: ByteString): TreeNode {
  if (name === DOT) return inode.node;
  if (name === DOT_DOT) return (inode.parent ?? inode).node;
  return inode.node.children!.get(name)!;
}

/** Writes a whole number of up to 53 bits, which may be negative. */
function writeI64(target: Buffer, at: number, value: number): void {
  const high = Math.floor(value / 2 ** 32);
  target.writeUInt32LE(value - high * 2 ** 32, at);
  target.writeInt32LE(high, at + 4);
}

/** Writes a whole number below 2⁵³ as u64, little-endian, at byte `at`. */
export function writeU64(target: Buffer, at: number, value: number): void {
  target.writeUInt32LE(value % 2 ** 32, at);
  target.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}
