import type { ErofsImage } from '../../src/erofs/encode.ts';
import { partsOf } from '../../src/erofs/extents.ts';

/** What an image says of one path. */
export interface FoundNode {
  readonly nid: number;
  readonly type: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly links: number;
  readonly rdev: number;
  readonly xattrs: readonly (readonly [string, string])[];
  /** Content of files, target of links, as latin1. */
  readonly data: string;
}

const PREFIXES = [
  '',
  'user.',
  'system.posix_acl_access',
  'system.posix_acl_default',
  'trusted.',
  '',
  'security.',
];

/** The whole image with the content of its files. */
export function materialize(image: ErofsImage, tar: Buffer): Buffer {
  const whole = Buffer.alloc(image.sizeBytes);
  for (const part of partsOf(image.extents, image.meta.length, 0, image.sizeBytes)) {
    if (part.kind === 'zero') continue;
    const from = part.kind === 'meta' ? image.meta : tar;
    from.copy(whole, part.offset, part.source, part.source + part.length);
  }
  return whole;
}

/** Reads a whole image by the on-disk format alone: path (latin1, root empty) to node. Looks names up as the kernel does. */
export function readErofs(image: Buffer): Map<string, FoundNode> {
  if (image.readUInt32LE(1024) !== 0xe0f5e1e2) throw new Error('magic');
  const metaBlock = image.readUInt32LE(1024 + 40);
  const found = new Map<string, FoundNode>();
  const visit = (path: string, nid: number): void => {
    const node = readInode(image, metaBlock * 4096 + nid * 32, nid);
    found.set(path, node);
    if (node.type !== 0o040000) return;
    const names = readNames(Buffer.from(node.data, 'latin1'));
    for (const [index, one] of names.entries()) {
      if (index > 0 && !(names[index - 1]!.name < one.name)) throw new Error('names are not sorted');
      if (one.name === '.' && one.nid !== nid) throw new Error('.');
      if (one.name !== '.' && one.name !== '..')
        visit(path === '' ? one.name : `${path}/${one.name}`, one.nid);
    }
    const dots = names.filter((one) => one.name === '.' || one.name === '..');
    if (dots.length !== 2) throw new Error('. and ..');
  };
  visit('', image.readUInt16LE(1024 + 14));
  return found;
}

function readInode(image: Buffer, at: number, nid: number): FoundNode {
  const format = image.readUInt16LE(at);
  const layout = format >> 1;
  if ((format & 1) !== 1 || (layout !== 0 && layout !== 2)) throw new Error('format');
  const icount = image.readUInt16LE(at + 2);
  const xattrBytes = icount === 0 ? 0 : 12 + 4 * (icount - 1);
  const mode = image.readUInt16LE(at + 4);
  const size = Number(image.readBigUInt64LE(at + 8));
  const place = image.readUInt32LE(at + 16);
  const type = mode & 0o170000;
  const hasData = [0o100000, 0o040000, 0o120000].includes(type);
  const tail = layout === 2 ? size % 4096 : 0;
  const inlineAt = at + 64 + xattrBytes;
  if (tail > 0 && Math.floor(inlineAt / 4096) !== Math.floor((inlineAt + tail - 1) / 4096))
    throw new Error('inline data crosses a block');
  const plain = image.subarray(place * 4096, place * 4096 + size - tail);
  const data = Buffer.concat([plain, image.subarray(inlineAt, inlineAt + tail)]);
  return {
    ...{ nid, type, mode: mode & 0o7777 },
    uid: image.readUInt32LE(at + 24),
    gid: image.readUInt32LE(at + 28),
    mtimeSec: Number(image.readBigInt64LE(at + 32)),
    mtimeNsec: image.readUInt32LE(at + 40),
    links: image.readUInt32LE(at + 44),
    rdev: hasData ? 0 : place,
    xattrs: readXattrs(image, at + 64, xattrBytes),
    data: hasData ? data.toString('latin1') : '',
  };
}

function readXattrs(image: Buffer, start: number, bytes: number): (readonly [string, string])[] {
  const found: (readonly [string, string])[] = [];
  for (let at = start + 12; at < start + bytes; ) {
    const nameBytes = image[at]!;
    const valueBytes = image.readUInt16LE(at + 2);
    const name = PREFIXES[image[at + 1]!]! + image.toString('latin1', at + 4, at + 4 + nameBytes);
    found.push([name, image.toString('hex', at + 4 + nameBytes, at + 4 + nameBytes + valueBytes)]);
    at += Math.ceil((4 + nameBytes + valueBytes) / 4) * 4;
  }
  return found;
}

function readNames(data: Buffer): { name: string; nid: number }[] {
  const names = [];
  for (let start = 0; start < data.length; start += 4096) {
    const block = data.subarray(start, start + 4096);
    const count = block.readUInt16LE(8) / 12;
    for (let slot = 0; slot < count; slot++) {
      const from = block.readUInt16LE(slot * 12 + 8);
      const end = slot + 1 < count ? block.readUInt16LE(slot * 12 + 20) : endOf(block, from);
      names.push({
        name: block.toString('latin1', from, end),
        nid: Number(block.readBigUInt64LE(slot * 12)),
      });
    }
  }
  return names;
}

/** The last name of a block ends at a NUL or at the block's end. */
function endOf(block: Buffer, from: number): number {
  const end = block.indexOf(0, from);
  return end < 0 ? block.length : end;
}
