import { CodedError } from '@sepia/base/errors';
import type { Extents } from './extents.ts';
import { EROFS_BLOCK, EROFS_MAGIC, EROFS_SLOT, KINDS, layInodes, writeU64 } from './inodes.ts';
import type { TreeNode } from './layer-tree.ts';

/** Raised whenever the same tree would give another image that kernels mount: images outlive the process that made them. */
export const EROFS_LAYOUT = 1;
const SUPERBLOCK_AT = 1024;
const SUPERBLOCK_BYTES = 128;
/** "Inodes have mtimes" (`EROFS_FEATURE_COMPAT_MTIME`). */
const COMPAT_MTIME = 2;
const BLOCK_BITS = 12;
/** Of the root's inode number in the superblock, and of the mode in an inode. */
const ROOT_AT = 14;
const MODE_AT = 4;
const TYPE_BITS = 0o170000;
const MAX_BLOCKS = 2 ** 32 - 1;

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

/**
 * Encodes a layer's tree as EROFS (Linux `fs/erofs/erofs_fs.h`): 4 KiB blocks, extended inodes, flat data, no
 * compression, one device. Small directories and links lie behind their inodes; every file begins at a block, in the
 * order of the layer, so that reading ahead in the image reads ahead in the layer.
 *
 * ```
 * 0      1024  zeros
 * 1024    128  superblock
 * 1152         inodes, each with its xattrs and inline data, none across a block; root first (nid 36, or 128 where the
 *              first block has no room for it)
 * ↑4096        blocks of directories and links that are not inline
 *              content of files (extents), each from a whole block on
 * ```
 * @throws {CodedError} `LAYER_NOT_LAZY` for a layer of more than 16 TiB
 */
export function encodeErofs(root: TreeNode, options: ErofsOptions): ErofsImage {
  const laid = layInodes(root, { base: 0, from: SUPERBLOCK_AT + SUPERBLOCK_BYTES });
  const files = laid.inodes.filter((one) => one.size > 0 && one.node.type === 'file');
  files.sort((a, b) => a.node.offset - b.node.offset || a.number - b.number);
  let block = laid.endBlock;
  for (const inode of files) {
    inode.firstBlock = block;
    block += Math.ceil(inode.size / EROFS_BLOCK);
  }
  if (block > MAX_BLOCKS) throw new CodedError('LAYER_NOT_LAZY', { detail: { reason: 'too-large' } });
  const meta = Buffer.alloc(laid.endBlock * EROFS_BLOCK);
  const facts = { inodes: laid.inodes.length, blocks: block, root: laid.nidOf(root), uuid: options.uuid };
  writeSuperblock(meta, facts);
  laid.write(meta);
  return {
    meta,
    sizeBytes: block * EROFS_BLOCK,
    extents: {
      image: numbersOf(files, (one) => one.firstBlock * EROFS_BLOCK),
      layer: numbersOf(files, (one) => one.node.offset),
      length: numbersOf(files, (one) => one.size),
    },
    inodes: laid.inodes.length,
  };
}

/** As `Float64Array.from`, which walks an iterator. */
function numbersOf<T>(list: readonly T[], numberOf: (one: T) => number): Float64Array {
  const numbers = new Float64Array(list.length);
  for (let at = 0; at < list.length; at++) numbers[at] = numberOf(list[at]!);
  return numbers;
}

/** True where the superblock of an image leads to a directory: kernels mount no other. */
export function hasRoot(meta: Buffer): boolean {
  if (meta.length < SUPERBLOCK_AT + SUPERBLOCK_BYTES) return false;
  const at = meta.readUInt16LE(SUPERBLOCK_AT + ROOT_AT) * EROFS_SLOT + MODE_AT;
  return at + 2 <= meta.length && (meta.readUInt16LE(at) & TYPE_BITS) === KINDS.directory.mode;
}

function writeSuperblock(
  meta: Buffer,
  facts: { inodes: number; blocks: number; root: number; uuid: Uint8Array },
): void {
  const at = SUPERBLOCK_AT;
  meta.writeUInt32LE(EROFS_MAGIC, at);
  meta.writeUInt32LE(COMPAT_MTIME, at + 8);
  meta.writeUInt8(BLOCK_BITS, at + 12);
  meta.writeUInt16LE(facts.root, at + ROOT_AT);
  writeU64(meta, at + 16, facts.inodes);
  meta.writeUInt32LE(facts.blocks, at + 36);
  meta.set(facts.uuid.subarray(0, 16), at + 48);
}
