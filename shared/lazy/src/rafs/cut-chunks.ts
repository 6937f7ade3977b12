import type { TreeNode } from '../erofs/layer-tree.ts';
import type { ChunkSpan, PackBatch } from '../estargz/cut.ts';
import { append, type Part, slice } from '../estargz/part.ts';

/** A file of a layer, and where its content lies in the tar. */
export interface LayerFile {
  readonly node: TreeNode;
  readonly parts: readonly Part[];
}

/** Chunks that are read and compressed in one go. */
export interface ChunkBatch extends PackBatch {
  /** The file of each member. */
  readonly files: readonly TreeNode[];
}

/** A batch goes once it has this many bytes, or chunks. */
const BATCH_BYTES = 1024 * 1024;
const BATCH_CHUNKS = 512;

/** Cuts files into chunks, a member each, and puts these together to batches. */
export function* cutChunks(files: Iterable<LayerFile>, chunkBytes: number): Generator<ChunkBatch> {
  let parts: Part[] = [];
  let members: { readonly sizeBytes: number; readonly marks: readonly ChunkSpan[] }[] = [];
  let owners: TreeNode[] = [];
  let sizeBytes = 0;
  for (const { node, parts: content } of files)
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
      members.push({ sizeBytes: bytes, marks: [{ kind: 'chunk', innerOffset: 0, chunkBytes: bytes }] });
      owners.push(node);
      sizeBytes += bytes;
    }
  if (sizeBytes > 0) yield { parts, members, sizeBytes, files: owners };
}
