import { DIRENT_BYTES, EROFS_BLOCK, EROFS_SLOT, INODE_BYTES, KINDS, LAYOUT } from '../erofs/inodes.ts';
import type { TreeNode } from '../erofs/layer-tree.ts';
import { readXattrs } from '../erofs/xattrs.ts';
import { type ByteString, byteString } from '../tar/byte-string.ts';
import type { FindChunk } from './chunk-finders.ts';
import {
  BLOCK_BITS,
  CHUNK_INDEX_BYTES,
  CHUNK_INDEXES,
  type ChunkAddress,
  invalid,
  type RafsBlob,
} from './format.ts';
import type { ImageBytes } from './image-bytes.ts';

/** What is known of a bootstrap before its tree is read. */
interface Facts<C extends ChunkAddress> {
  /** What inode numbers count from. */
  readonly meta: number;
  readonly root: number;
  readonly chunkAt: FindChunk<C>;
  readonly blobs: readonly RafsBlob[];
  readonly chunkBytes: number;
  readonly maxInodes: number;
}

interface FoundTree<C extends ChunkAddress> {
  readonly root: TreeNode;
  readonly chunks: ReadonlyMap<TreeNode, readonly C[]>;
  readonly byNid: ReadonlyMap<number, TreeNode>;
}

const COMPACT_BYTES = 32;
const NAME_BYTES = 255;
const TARGET_BYTES = 4095;
const TYPE_BITS = 0o170000;

/** All inodes that can be reached from the root. @throws {CodedError} `LAYER_INVALID` */
export function readTree<C extends ChunkAddress>(image: ImageBytes, facts: Facts<C>): FoundTree<C> {
  return new TreeReader(image, facts).read();
}

/** An inode as it is in the image. */
interface Found {
  readonly node: TreeNode;
  readonly nid: number;
  readonly layout: number;
  /** `i_u`. */
  readonly place: number;
  readonly sizeBytes: number;
  /** Where its inline data begins. */
  readonly behind: number;
}

class TreeReader<C extends ChunkAddress> {
  readonly #image: ImageBytes;
  readonly #facts: Facts<C>;
  readonly #byNid = new Map<number, TreeNode>();
  readonly #chunks = new Map<TreeNode, readonly C[]>();

  constructor(image: ImageBytes, facts: Facts<C>) {
    this.#image = image;
    this.#facts = facts;
  }

  read(): FoundTree<C> {
    const found = this.#inode(this.#facts.root);
    if (found.node.type !== 'directory') throw invalid('its root is not a directory');
    const open = [{ found, parent: found.nid }];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      for (const { name, nid, at, kind } of this.#names(next.found)) {
        if (name === '.' || name === '..') {
          if (nid !== (name === '.' ? next.found.nid : next.parent))
            throw invalid(`"${name}" of a directory is another`, at);
          continue;
        }
        const known = this.#byNid.get(nid);
        if (known?.type === 'directory') throw invalid(`the directory ${nid} has two names`, at);
        const child = known === undefined ? this.#inode(nid) : undefined;
        const node = known ?? child!.node;
        if (KINDS[node.type].dirent !== kind)
          throw invalid(`inode ${nid} is not of the type that its name says`, at);
        next.found.node.children!.set(name, node);
        if (child?.node.type === 'directory') open.push({ found: child, parent: next.found.nid });
      }
    }
    return { root: found.node, chunks: this.#chunks, byNid: this.#byNid };
  }

  #inode(nid: number): Found {
    const image = this.#image;
    const { maxInodes } = this.#facts;
    if (this.#byNid.size >= maxInodes) throw invalid(`it has more than ${maxInodes} inodes`);
    const at = this.#facts.meta + nid * EROFS_SLOT;
    const format = image.u16(at);
    const isExtended = (format & 1) === 1;
    const layout = format >> 1;
    const bytes = isExtended ? INODE_BYTES : COMPACT_BYTES;
    image.own(at, bytes);
    const mode = image.u16(at + 4);
    const type = typeOf(mode);
    if (type === undefined) throw invalid(`inode ${nid} has no type`, at + 4);
    const isRegular = type === 'file';
    if (
      isRegular !== (layout === LAYOUT.chunkBased) ||
      (!isRegular && layout !== 0 && layout !== LAYOUT.flatInline)
    )
      throw invalid(`inode ${nid} has a layout that RAFS does not use`, at);
    const count = image.u16(at + 2);
    const xattrBytes = count === 0 ? 0 : XATTR_HEADER_BYTES + 4 * (count - 1);
    const sizeBytes = isExtended ? image.u64(at + 8) : image.u32(at + 8);
    const place = image.u32(at + 16);
    const isDevice = type === 'char' || type === 'block';
    const node: TreeNode = {
      type,
      mode: mode & ~TYPE_BITS,
      ...(isExtended ? owners(image, at) : compactOwners(image, at)),
      devMajor: isDevice ? (place >> 8) & 0xfff : 0,
      devMinor: isDevice ? (place & 0xff) | ((place >>> 20) << 8) : 0,
      xattrs: readXattrs(image.own(at + bytes, xattrBytes), (what) => invalid(what, at + bytes)),
      link: '' as ByteString,
      offset: 0,
      turn: -1,
      size: isRegular ? sizeBytes : 0,
      children: type === 'directory' ? new Map() : undefined,
      isImplied: false,
    };
    const found = { node, nid, layout, place, sizeBytes, behind: at + bytes + xattrBytes };
    const known = type === 'symlink' ? { ...found, node: { ...node, link: this.#target(found) } } : found;
    if (isRegular) this.#chunks.set(node, this.#chunksOf(found));
    this.#byNid.set(nid, known.node);
    return known;
  }

  #target(found: Found): ByteString {
    if (found.sizeBytes === 0 || found.sizeBytes > TARGET_BYTES)
      throw invalid(`the link ${found.nid} has a target of ${found.sizeBytes} bytes`);
    const target = byteString(this.#data(found, 0, found.sizeBytes));
    if (target.includes('\0')) throw invalid(`the link ${found.nid} has a NUL in its target`);
    return target;
  }

  /** Bytes of a flat inode within one block. */
  #data({ layout, place, sizeBytes, behind }: Found, block: number, length: number): Buffer {
    const isInline = layout === LAYOUT.flatInline && (block + 1) * EROFS_BLOCK > sizeBytes;
    return this.#image.own(isInline ? behind : (place + block) * EROFS_BLOCK, length);
  }

  #chunksOf({ nid, place, sizeBytes, behind }: Found): C[] {
    const { chunkBytes, blobs, chunkAt } = this.#facts;
    const bits = (place & 0x1f) + BLOCK_BITS;
    if ((place & CHUNK_INDEXES) === 0 || place > 0x3f || 2 ** bits < chunkBytes)
      throw invalid(`the file ${nid} has an unknown chunk format ${place}`);
    const count = Math.ceil(sizeBytes / chunkBytes);
    const start = Math.ceil(behind / 8) * 8;
    const indexes = this.#image.own(start, count * CHUNK_INDEX_BYTES);
    const chunks: C[] = [];
    for (let slot = 0; slot < count; slot++) {
      const at = slot * CHUNK_INDEX_BYTES;
      const high = indexes.readUInt16LE(at + 2);
      const blob = blobs[(high & 0xff) - 1];
      const index = ((high >> 8) << 16) | indexes.readUInt16LE(at);
      const offset = indexes.readUInt32LE(at + 4) * EROFS_BLOCK;
      const length = Math.min(chunkBytes, sizeBytes - slot * chunkBytes);
      const chunk = blob && chunkAt({ blob, index, offset, sizeBytes: length });
      if (chunk === undefined)
        throw invalid(`part ${slot} of the file ${nid} is no chunk of the table`, start + at);
      if (chunk.offset !== offset)
        throw invalid(`part ${slot} of the file ${nid} lies elsewhere than its chunk`, start + at + 4);
      if (chunk.sizeBytes !== length)
        throw invalid(`part ${slot} of the file ${nid} is not as long as its chunk`, start + at);
      const first = chunks[0];
      if (2 ** bits > chunkBytes && first !== undefined && !isBehind(first, chunk, slot * chunkBytes))
        throw invalid(`the parts of the file ${nid} are not the row that it says`, start + at);
      chunks.push(chunk);
    }
    return chunks;
  }

  /** Entries of a directory, which are sorted. */
  *#names(found: Found): Generator<{ name: string & ByteString; nid: number; at: number; kind: number }> {
    let before: string | undefined;
    let dots = 0;
    for (let start = 0; start < found.sizeBytes; start += EROFS_BLOCK) {
      const block = this.#data(found, start / EROFS_BLOCK, Math.min(EROFS_BLOCK, found.sizeBytes - start));
      for (const entry of entriesOf(block, found.nid)) {
        if (before !== undefined && !(before < entry.name))
          throw invalid(`the names of the directory ${found.nid} are not in order`, entry.at);
        before = entry.name;
        dots += entry.name === '.' || entry.name === '..' ? 1 : 0;
        yield entry;
      }
    }
    if (dots !== 2) throw invalid(`the directory ${found.nid} has no "." and ".."`);
  }
}

const XATTR_HEADER_BYTES = 12;

function isBehind(first: ChunkAddress, chunk: ChunkAddress, bytes: number): boolean {
  return chunk.blob === first.blob && chunk.offset === first.offset + bytes;
}

function typeOf(mode: number): TreeNode['type'] | undefined {
  const found = Object.entries(KINDS).find(([, kind]) => kind.mode === (mode & TYPE_BITS));
  return found?.[0] as TreeNode['type'] | undefined;
}

type Owners = Pick<TreeNode, 'uid' | 'gid' | 'mtimeSec' | 'mtimeNsec'>;

function owners(image: ImageBytes, at: number): Owners {
  return {
    uid: image.u32(at + 24),
    gid: image.u32(at + 28),
    mtimeSec: image.i64(at + 32),
    mtimeNsec: image.u32(at + 40),
  };
}

/** The short form has no time. */
function compactOwners(image: ImageBytes, at: number): Owners {
  return { uid: image.u16(at + 24), gid: image.u16(at + 26), mtimeSec: 0, mtimeNsec: 0 };
}

/** Entries of one block of a directory. */
function* entriesOf(
  block: Buffer,
  nid: number,
): Generator<{ name: string & ByteString; nid: number; at: number; kind: number }> {
  const bad = (at: number): Error => invalid(`the directory ${nid} has a broken block`, at);
  if (block.length < DIRENT_BYTES) throw bad(0);
  const names = block.readUInt16LE(8);
  if (names < DIRENT_BYTES || names % DIRENT_BYTES !== 0 || names > block.length) throw bad(8);
  const count = names / DIRENT_BYTES;
  for (let slot = 0; slot < count; slot++) {
    const at = slot * DIRENT_BYTES;
    const from = block.readUInt16LE(at + 8);
    const isLast = slot + 1 === count;
    const end = isLast ? lastEnd(block, from) : block.readUInt16LE(at + DIRENT_BYTES + 8);
    if (from < names || end <= from || end > block.length || end - from > NAME_BYTES) throw bad(at + 8);
    const name = byteString(block.subarray(from, end));
    if (name.includes('/') || name.includes('\0')) throw bad(from);
    const child = block.readUInt32LE(at) + block.readUInt32LE(at + 4) * 2 ** 32;
    yield { name, nid: child, at, kind: block.readUInt8(at + 10) };
  }
}

/** The last name of a block ends at a NUL or with the block. */
function lastEnd(block: Buffer, from: number): number {
  const end = block.indexOf(0, from);
  return end < 0 ? block.length : end;
}
