import type { TreeNode } from '../erofs/layer-tree.ts';
import type { Batch, Member } from '../estargz/cut.ts';
import { append, type Part, slice } from '../estargz/part.ts';
import type { TarEntry } from '../tar/tar-entry.ts';

/** A file of a layer, and where its content lies in the tar. */
export interface LayerFile {
  readonly node: TreeNode;
  readonly entry: TarEntry;
  readonly parts: readonly Part[];
}

/** Chunks that are read and compressed in one go. */
export interface ChunkBatch extends Batch {
  /** The file of each member. */
  readonly files: readonly TreeNode[];
}

/** A batch goes once it has this many bytes, or chunks. */
const BATCH_BYTES = 1024 * 1024;
const BATCH_CHUNKS = 512;

/** Cuts files into chunks, a member each, and puts these together to batches. */
export function* cutChunks(files: Iterable<LayerFile>, chunkBytes: number): Generator<ChunkBatch> {
  let parts: Part[] = [];
  let members: Member[] = [];
  let owners: TreeNode[] = [];
  let sizeBytes = 0;
  for (const { node, entry, parts: content } of files)
    for (let at = 0; at < node.size; at += chunkBytes) {
      const bytes = Math.min(chunkBytes, node.size - at);
      if (sizeBytes > 0 && (sizeBytes + bytes > BATCH_BYTES || members.length >= BATCH_CHUNKS)) {
        yield { parts, members, sizeBytes, files: owners };
        parts = [];
        members = [];
        owners = [];
        sizeBytes = 0;
      }
      for (const part of slice(content, at, bytes)) append(parts, part);
      const isFull = bytes === chunkBytes;
      const mark = {
        kind: 'chunk',
        entry,
        innerOffset: 0,
        chunkOffset: at,
        chunkBytes: bytes,
        isFull,
      } as const;
      members.push({ sizeBytes: bytes, marks: [mark] });
      owners.push(node);
      sizeBytes += bytes;
    }
  if (sizeBytes > 0) yield { parts, members, sizeBytes, files: owners };
}
