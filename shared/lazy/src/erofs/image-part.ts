import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { deflateRawSync, inflateRaw } from 'node:zlib';
import { systemCode } from '@sepia/base/errors';
import { ByteReader, invalidIndex } from '../index/byte-reader.ts';
import { ByteWriter } from '../index/byte-writer.ts';
import { getNumber, putNumber } from '../index/head-fields.ts';
import { type LayerHead, type LayerIndex, readIndexHead } from '../index/layer-index.ts';
import type { ByteString } from '../tar/byte-string.ts';
import { EROFS_LAYOUT, type ErofsImage, encodeErofs, hasRoot } from './encode.ts';
import type { Extents } from './extents.ts';
import { impliedDirectories, lowestConflict } from './image-conflicts.ts';
import { EROFS_BLOCK } from './inodes.ts';
import { imageUuid } from './layer-image.ts';
import { unpackedTree } from './layer-tree.ts';
import { checkLinkHeaders } from './link-headers.ts';
import { checkUnpacking } from './unpacking.ts';

/** A layer as an image, and what of its entries is needed again and again. */
export interface MadeImage extends Pick<ErofsImage, 'meta' | 'sizeBytes' | 'extents'> {
  /** Directories that only other paths name: see `imageConflicts`. */
  readonly implied: readonly ByteString[];
  /** False: it may be the lowest layer of an image, see `lowestConflict`. Undefined: who put it behind its index did not say. */
  readonly hasWhiteouts: boolean | undefined;
}

const MAGIC = Buffer.from('SEPIAIM\n', 'latin1');
const HEADER_BYTES = 64;
const SUM_BYTES = 32;
/** 0 in what was made before. */
const SAYS = { noWhiteouts: 1, whiteouts: 2 } as const;
/** Images with more than this before the content of their files are made where they are shown: such an index would be too long. */
const MAX_META_BYTES = 16 * 1024 * 1024;

/** The image of a layer from its entries. @throws {CodedError} `LAYER_NOT_LAZY` */
export function imageOf(index: Pick<LayerIndex, 'kind' | 'diffId' | 'entries'>): MadeImage {
  checkLinkHeaders(index.entries);
  const tree = unpackedTree(index.entries);
  if (index.kind === 'layer') checkUnpacking(index.entries, tree);
  const { meta, sizeBytes, extents } = encodeErofs(tree, { uuid: imageUuid(index.diffId) });
  const hasWhiteouts = lowestConflict(index.entries) !== undefined;
  return { meta, sizeBytes, extents, implied: impliedDirectories(tree), hasWhiteouts };
}

/**
 * An index with the image that its entries make behind it, for who does not want to make it: in 50 layers of 10,000 files that
 * takes seconds. Readers of before look at nothing behind an index.
 * @throws {CodedError} `LAYER_NOT_LAZY` where there can be no image
 */
export function indexWithImage(bytes: Buffer, index: LayerIndex = readIndexHead(bytes)): Buffer {
  const image = imageOf(index);
  const files = image.meta.length > MAX_META_BYTES ? undefined : encodeFiles(image.extents);
  if (files === undefined) return bytes;
  const meta = deflateRawSync(image.meta);
  const implied = encodeNames(image.implied);
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(EROFS_LAYOUT, 8);
  header.writeUInt32LE(image.extents.length.length, 12);
  putNumber(header, 16, image.meta.length);
  putNumber(header, 24, meta.length);
  putNumber(header, 32, files.length);
  putNumber(header, 40, implied.length);
  header.writeUInt8(image.hasWhiteouts === true ? SAYS.whiteouts : SAYS.noWhiteouts, 48);
  const part = [header, meta, files, implied];
  const sum = createHash('sha256');
  for (const piece of part) sum.update(piece);
  return Buffer.concat([bytes, ...part, sum.digest()]);
}

/**
 * The image behind an index; undefined where none is, or one of another layout or that no kernel mounts.
 * @param part what follows the index's own bytes
 * @throws {CodedError} `INDEX_INVALID`
 */
export async function readImagePart(part: Buffer, index: LayerHead): Promise<MadeImage | undefined> {
  if (part.length < HEADER_BYTES + SUM_BYTES || !part.subarray(0, MAGIC.length).equals(MAGIC))
    return undefined;
  if (part.readUInt32LE(8) !== EROFS_LAYOUT) return undefined;
  const sum = createHash('sha256').update(part.subarray(0, -SUM_BYTES)).digest();
  if (!sum.equals(part.subarray(-SUM_BYTES))) invalidIndex('the checksum of its image is wrong');
  const metaBytes = getNumber(part, 16);
  const [storedBytes, filesBytes, namesBytes] = [
    getNumber(part, 24),
    getNumber(part, 32),
    getNumber(part, 40),
  ];
  const isWhole = HEADER_BYTES + storedBytes + filesBytes + namesBytes + SUM_BYTES === part.length;
  if (!isWhole || metaBytes > MAX_META_BYTES || metaBytes % EROFS_BLOCK !== 0)
    invalidIndex('lengths of its image');
  const all = new ByteReader(part.subarray(HEADER_BYTES, -SUM_BYTES));
  const stored = all.raw(storedBytes);
  const files = new ByteReader(all.raw(filesBytes));
  const { extents, sizeBytes } = readFiles(files, part.readUInt32LE(12), metaBytes, index.uncompressedBytes);
  const implied = readNames(new ByteReader(all.raw(namesBytes)));
  const meta = await inflate(stored, metaBytes);
  // Who made the first indexes had the root of some layers elsewhere than their superblock said.
  return hasRoot(meta) ? { meta, sizeBytes, extents, implied, hasWhiteouts: saidIn(part) } : undefined;
}

function saidIn(part: Buffer): boolean | undefined {
  const said = part.readUInt8(48);
  if (said === SAYS.whiteouts) return true;
  return said === SAYS.noWhiteouts ? false : undefined;
}

/** Per file: how far behind the end of the one before it begins in the layer, and its length; undefined where files share bytes. */
function encodeFiles({ layer, length }: Extents): Buffer | undefined {
  const writer = new ByteWriter();
  let end = 0;
  for (let at = 0; at < layer.length; at++) {
    if (layer[at]! < end) return undefined;
    writer.varint(layer[at]! - end);
    writer.varint(length[at]!);
    end = layer[at]! + length[at]!;
  }
  return writer.done();
}

/** Files follow the metadata in the order of the layer, each from a whole block on. */
function readFiles(
  reader: ByteReader,
  count: number,
  metaBytes: number,
  uncompressedBytes: number,
): { extents: Extents; sizeBytes: number } {
  if (2 * count > reader.left) invalidIndex('files of its image');
  const extents = {
    image: new Float64Array(count),
    layer: new Float64Array(count),
    length: new Float64Array(count),
  };
  let sizeBytes = metaBytes;
  let end = 0;
  for (let at = 0; at < count; at++) {
    const layer = end + reader.varint(uncompressedBytes);
    const length = reader.varint(uncompressedBytes);
    end = layer + length;
    if (length === 0 || end > uncompressedBytes) invalidIndex('files of its image');
    extents.image[at] = sizeBytes;
    extents.layer[at] = layer;
    extents.length[at] = length;
    sizeBytes += Math.ceil(length / EROFS_BLOCK) * EROFS_BLOCK;
  }
  reader.end();
  return { extents, sizeBytes };
}

function encodeNames(names: readonly ByteString[]): Buffer {
  const writer = new ByteWriter();
  for (const name of names) {
    writer.varint(name.length);
    writer.raw(Buffer.from(name, 'latin1'));
  }
  return writer.done();
}

function readNames(reader: ByteReader): ByteString[] {
  const names: ByteString[] = [];
  while (reader.left > 0) names.push(reader.text(reader.varint(reader.left)));
  return names;
}

async function inflate(stored: Buffer, length: number): Promise<Buffer> {
  const run = promisify(inflateRaw) as (bytes: Buffer, options: object) => Promise<Buffer>;
  try {
    const bytes = await run(stored, {
      chunkSize: Math.max(64, length + 64),
      maxOutputLength: Math.max(1, length),
    });
    return bytes.length === length ? bytes : invalidIndex('length of its image');
  } catch (error) {
    const code = systemCode(error);
    if (code?.startsWith('Z_') === true || code === 'ERR_BUFFER_TOO_LARGE') return invalidIndex('its image');
    throw error;
  }
}
