import { zstdDecompressSync } from 'node:zlib';
import { CodedError } from '@sepia/base/errors';
import type { TreeNode } from '../../src/erofs/layer-tree.ts';
import { inlinePacker } from '../../src/pack/batch.ts';
import { type BuiltRafs, buildRafs, type RafsOptions } from '../../src/rafs/build.ts';
import { unpack } from '../../src/rafs/chunk-info.ts';
import { type Bootstrap, isPlainChunk, type RafsBlob } from '../../src/rafs/format.ts';
import type { NydusIndexer } from '../../src/rafs/nydus-index.ts';
import { type ReadBootstrap, readBootstrap } from '../../src/rafs/read-bootstrap.ts';
import { verifyRafs } from '../../src/rafs/verify.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { tarBytes } from './layer-tree.ts';

const DEFAULTS: RafsOptions = {
  ...{ level: 3, chunkBytes: 4096, prioritized: [], maxBytes: 2 ** 40, compressor: 'zstd' },
};

/** A data blob of a tar, or why there is none. */
export async function builtRafs(
  tar: Buffer,
  options: Partial<RafsOptions> = {},
): Promise<{ built: BuiltRafs; blob: Buffer } | string> {
  const parts: Uint8Array[] = [];
  const take = (bytes: Uint8Array): void => void parts.push(Buffer.from(bytes));
  const deps = { source: tarBytes(tar), packer: inlinePacker, take };
  const built = await buildRafs(deps, tarEntries(tar), { ...DEFAULTS, ...options });
  return 'unfit' in built ? built.unfit : { built, blob: Buffer.concat(parts) };
}

/** A layer's bootstrap as the image sees it. */
export function ownBootstrap({ bootstrap, digest }: BuiltRafs): ReadBootstrap {
  return readBootstrap(zstdDecompressSync(bootstrap), { insideOf: digest.slice('sha256:'.length) });
}

/** Verifies a data blob, and lets an indexer read it. @throws {CodedError} `LAYER_INVALID` with the first fault */
export async function readBlob(
  indexer: NydusIndexer,
  { table }: Pick<ReadBootstrap, 'table'>,
  blob: RafsBlob,
  bytes: Buffer,
): Promise<void> {
  const { findings } = await verifyRafs({
    ...{ blob, sizeBytes: bytes.length, chunks: table.filter((chunk) => chunk.blob === blob) },
    read: async (offset, length) => bytes.subarray(offset, offset + length),
    content: (infos) => indexer.content(blob, infos),
  });
  if (findings[0] !== undefined) throw new CodedError('LAYER_INVALID', { message: findings[0].message });
}

/** What the kernel sees of a blob: its chunks at their places. */
export function deviceOf(blob: RafsBlob, bytes: Buffer, { chunks }: Pick<Bootstrap, 'chunks'>): Buffer {
  const device = Buffer.alloc(blob.rawBytes);
  for (const own of chunks.values())
    for (const chunk of own) {
      if (chunk.blob !== blob) continue;
      const packed = bytes.subarray(chunk.packedOffset, chunk.packedOffset + chunk.packedBytes);
      unpack(packed, isPlainChunk(chunk) ? 'none' : blob.compressor, chunk.sizeBytes, 'a chunk').copy(
        device,
        chunk.offset,
      );
    }
  return device;
}

/** Content of a node of a tree, in base64, read through its chunks from the data blobs; `bytesOf` finds one by its id. */
export function contentThrough(
  bootstrap: ReadBootstrap,
  bytesOf: (id: string) => Buffer,
): (node: TreeNode) => string {
  const devices = new Map(bootstrap.blobs.map((blob) => [blob, deviceOf(blob, bytesOf(blob.id), bootstrap)]));
  return (node) =>
    Buffer.concat(
      bootstrap.chunks
        .get(node)!
        .map(({ blob, offset, sizeBytes }) => devices.get(blob)!.subarray(offset, offset + sizeBytes)),
    ).toString('base64');
}
