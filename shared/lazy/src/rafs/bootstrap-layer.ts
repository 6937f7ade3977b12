import { giveBack } from '@sepia/base/chunk';
import { digestOf } from '@sepia/base/digest';
import { EROFS_BLOCK } from '../erofs/inodes.ts';
import { joined } from '../joined.ts';
import { freeOwn, type Packer } from '../pack/batch.ts';
import type { ByteString } from '../tar/byte-string.ts';
import { EMPTY_HEADER, encodeHeader, zerosAfter } from '../tar/encode-header.ts';
import { tarEntries } from '../tar/tar-reader.ts';
import { encodeChunkHeader, encodeChunkInfos } from './chunk-info.ts';
import { encodeBootstrap } from './encode-bootstrap.ts';
import { type Bootstrap, invalid, type RafsBlob, type RafsChunk, roundUp } from './format.ts';
import type { ReadBootstrap } from './read-bootstrap.ts';

/** Where nydus-snapshotter looks for the bootstrap in the last layer of an image. */
export const BOOTSTRAP_NAME = 'image/image.boot';
const LEVEL = 6;
const END_BYTES = 1024;

/** The layer with the bootstrap of an image. */
export interface BootstrapLayer {
  /** gzip of `raw`. */
  readonly bytes: Uint8Array;
  readonly diffId: string;
}

/**
 * A layer with the bootstrap of an image and, for each data blob, its table of chunks as nydusd keeps it, so that the first
 * read has no need to fetch it.
 * @param layers bootstraps of the layers, which know all chunks of their blobs
 */
export async function bootstrapLayer(
  bootstrap: Bootstrap,
  layers: readonly ReadBootstrap[],
  packer: Packer,
): Promise<BootstrapLayer> {
  const tables = new Map(layers.flatMap((layer) => layer.blobs.map((blob) => [blob, layer.table] as const)));
  const files = bootstrap.blobs.map((blob) => ({
    name: tableName(blob.id),
    bytes: tableFile(blob, tables.get(blob)!),
  }));
  const tar = tarOf([{ name: BOOTSTRAP_NAME, bytes: encodeBootstrap(bootstrap) }, ...files]);
  const diffId = digestOf(tar);
  const { packed, raw } = await packer.pack({
    ...{ raw: tar, members: [tar.length], digests: [] },
    ...{ format: 'gzip', level: LEVEL },
  });
  freeOwn(raw);
  return { bytes: packed, diffId };
}

/** Where nydusd's table of a blob's chunks stands beside the bootstrap. */
export const tableName = (id: string): string => `image/${id}.blob.meta`;

/** A blob's table of chunks, uncompressed, and its header at the next whole block. */
export function tableFile(blob: RafsBlob, chunks: readonly RafsChunk[]): Uint8Array {
  const own = chunks.filter((chunk) => chunk.blob === blob).sort((one, other) => one.index - other.index);
  const infos = encodeChunkInfos(own);
  const gap = new Uint8Array(roundUp(infos.length, EROFS_BLOCK) - infos.length);
  return joined([infos, gap, encodeChunkHeader(blob)]);
}

/** A tar of these files, whose memory is free then: a bootstrap may have a hundred megabytes and is not there twice. */
function tarOf(
  files: readonly { readonly name: string; readonly bytes: Uint8Array }[],
): Uint8Array<ArrayBuffer> {
  const folder = encodeHeader({ ...EMPTY_HEADER, name: 'image/' as ByteString, typeFlag: '5', mode: 0o755 });
  const parts: Uint8Array[] = [folder];
  for (const { name, bytes } of files) {
    const header = { ...EMPTY_HEADER, name: name as ByteString, mode: 0o444, size: bytes.length };
    parts.push(encodeHeader(header), bytes, zerosAfter(bytes.length));
  }
  parts.push(new Uint8Array(END_BYTES));
  const tar = joined(parts) as Uint8Array<ArrayBuffer>;
  for (const { bytes } of files) giveBack(bytes);
  return tar;
}

/** The bootstrap in an uncompressed layer that is in memory. @throws {CodedError} `LAYER_INVALID` */
export function bootstrapIn(tar: Buffer): Buffer {
  const found = tarEntries(tar).find(({ name, type }) => name === BOOTSTRAP_NAME && type === 'file');
  if (found === undefined) throw invalid(`its bootstrap layer has no ${BOOTSTRAP_NAME}`);
  return tar.subarray(found.payloadOffset, found.payloadOffset + found.size);
}
