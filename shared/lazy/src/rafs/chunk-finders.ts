import { type ChunkAddress, invalid, type RafsBlob, type RafsChunk } from './format.ts';

/** The chunk that an inode names; undefined where there is none. */
export type FindChunk<C extends ChunkAddress> = (address: ChunkAddress) => C | undefined;

/** Chunks as the table of a bootstrap has them. @throws {CodedError} `LAYER_INVALID` for two records of one chunk */
export function chunksOfTable(table: readonly RafsChunk[]): FindChunk<RafsChunk> {
  const records = new ChunkMap<RafsChunk>();
  for (const chunk of table) {
    if (records.get(chunk) !== undefined) throw invalid(`chunk ${chunk.index} of a blob has two records`);
    records.set(chunk);
  }
  return (address) => records.get(address);
}

/** Chunks as the inodes that name them say; the first says where it lies and how long it is. */
export function chunksOfInodes(): FindChunk<ChunkAddress> {
  const seen = new ChunkMap<ChunkAddress>();
  return (address) => {
    const { blob, index, offset, sizeBytes } = address;
    if (index >= blob.chunkCount || offset + sizeBytes > blob.rawBytes) return undefined;
    return seen.get(address) ?? seen.set(address);
  };
}

class ChunkMap<C extends ChunkAddress> {
  readonly #blobs = new Map<RafsBlob, Map<number, C>>();

  get({ blob, index }: ChunkAddress): C | undefined {
    return this.#blobs.get(blob)?.get(index);
  }

  set(chunk: C): C {
    const ofBlob = this.#blobs.get(chunk.blob) ?? new Map<number, C>();
    this.#blobs.set(chunk.blob, ofBlob);
    ofBlob.set(chunk.index, chunk);
    return chunk;
  }
}
