import { encodeHeader, zerosAfter } from '../tar/encode-header.ts';
import type { OutEntry } from './arrange.ts';
import { append, lengthOf, type Part, rawHeader, rawPadding, slice } from './part.ts';

/** Where the TOC points to: an entry without content, or one chunk of a file. */
export type Mark =
  | { readonly kind: 'plain'; readonly entry: OutEntry['entry'] }
  | {
      readonly kind: 'chunk';
      readonly entry: OutEntry['entry'];
      /** Bytes of the member before the chunk. */
      readonly innerOffset: number;
      /** Position of the chunk in the file. */
      readonly chunkOffset: number;
      readonly chunkBytes: number;
      /** False for a last or only chunk that is shorter than the chunk size. */
      readonly isFull: boolean;
    };

/** One member: how long it is and what it holds, in order. */
export interface Member {
  readonly sizeBytes: number;
  readonly marks: readonly Mark[];
}

/** A chunk as it is to be hashed: where it lies in its member. */
export type ChunkSpan = Pick<Extract<Mark, { kind: 'chunk' }>, 'kind' | 'innerOffset' | 'chunkBytes'>;

/** Members of a layer that are read and compressed in one go. Sizes are uncompressed bytes. */
export interface PackBatch {
  readonly parts: readonly Part[];
  readonly members: readonly {
    readonly sizeBytes: number;
    readonly marks: readonly (ChunkSpan | { readonly kind: 'plain' })[];
  }[];
  readonly sizeBytes: number;
}

/** Members that are read and compressed in one go. */
export interface Batch extends PackBatch {
  readonly members: readonly Member[];
}

/** Where the content of a layer is cut into chunks and gzip members. */
export interface CutOptions {
  /** Longest part of a file that is one chunk, bytes. */
  readonly chunkBytes: number;
  /** Members go on until they hold this many uncompressed bytes; 0: every chunk begins a member. */
  readonly minChunkBytes: number;
  /** True: a member ends where the content of its file does, so that chunks share theirs with nothing. */
  readonly isExact?: boolean;
  /** Length of the source tar. */
  readonly tarBytes: number;
  /** What follows the last entry. */
  readonly trailer?: readonly Part[];
}

/** A batch goes once it has this many bytes. */
const BATCH_BYTES = 1024 * 1024;
const BATCH_MEMBERS = 512;
/** Headers without content go on in one member up to this length; readers take any number of members in a row. */
const HEADER_RUN_BYTES = 4 * 1024 * 1024;

/**
 * Cuts the output into gzip members (zstd frames) and puts these together to batches. A member begins at the start, at
 * the first byte of every file with content and at each further chunk of it; what follows a chunk (padding, headers of
 * entries without content, the next file's header) belongs to its member. No state but what is handed out.
 */
export function* cutMembers(entries: readonly OutEntry[], options: CutOptions): Generator<Batch> {
  const cutter = new Cutter();
  for (const out of entries) {
    const { entry } = out;
    if (cutter.bytesAfterChunk >= HEADER_RUN_BYTES) {
      cutter.endMember();
      if (cutter.isBatchFull) yield cutter.takeBatch();
    }
    cutter.add(out.isRaw ? rawHeader(entry) : { bytes: encodeHeader(entry) });
    if (out.payload.length === 0) cutter.mark({ kind: 'plain', entry });
    for (let at = 0; at < entry.size; at += options.chunkBytes) {
      const chunkBytes = Math.min(options.chunkBytes, entry.size - at);
      if (out.isLandmark || cutter.memberBytes >= options.minChunkBytes) cutter.endMember();
      if (cutter.isBatchFull) yield cutter.takeBatch();
      cutter.chunk(entry, at, chunkBytes, chunkBytes === options.chunkBytes);
      for (const part of slice(out.payload, at, chunkBytes)) cutter.add(part);
      cutter.endChunk();
      if (options.isExact === true) cutter.endMember();
    }
    for (const part of paddingOf(out, options.tarBytes)) cutter.add(part);
    if (cutter.isBatchFull && cutter.memberBytes === 0) yield cutter.takeBatch();
  }
  for (const part of options.trailer ?? []) cutter.add(part);
  cutter.endMember();
  if (cutter.hasMembers) yield cutter.takeBatch();
}

function paddingOf(out: OutEntry, tarBytes: number): Part[] {
  if (out.payload.length === 0) return [];
  return out.isRaw ? rawPadding(out.entry, tarBytes) : [{ bytes: zerosAfter(out.entry.size) }];
}

/** The batch and the member that are being put together. */
class Cutter {
  #parts: Part[] = [];
  #members: Member[] = [];
  #batchBytes = 0;
  /** Parts of the open member: they go to the batch with it. */
  #open: Part[] = [];
  #marks: Mark[] = [];
  memberBytes = 0;
  bytesAfterChunk = 0;

  get isBatchFull(): boolean {
    return this.#batchBytes >= BATCH_BYTES || this.#members.length >= BATCH_MEMBERS;
  }

  get hasMembers(): boolean {
    return this.#members.length > 0;
  }

  add(part: Part): void {
    append(this.#open, part);
    this.memberBytes += lengthOf(part);
    this.bytesAfterChunk += lengthOf(part);
  }

  mark(mark: Mark): void {
    this.#marks.push(mark);
  }

  chunk(entry: OutEntry['entry'], chunkOffset: number, chunkBytes: number, isFull: boolean): void {
    this.mark({ kind: 'chunk', entry, innerOffset: this.memberBytes, chunkOffset, chunkBytes, isFull });
  }

  endChunk(): void {
    this.bytesAfterChunk = 0;
  }

  endMember(): void {
    if (this.memberBytes === 0) return;
    for (const part of this.#open) append(this.#parts, part);
    this.#members.push({ sizeBytes: this.memberBytes, marks: this.#marks });
    this.#batchBytes += this.memberBytes;
    this.#open = [];
    this.#marks = [];
    this.memberBytes = 0;
    this.bytesAfterChunk = 0;
  }

  takeBatch(): Batch {
    const batch = { parts: this.#parts, members: this.#members, sizeBytes: this.#batchBytes };
    this.#parts = [];
    this.#members = [];
    this.#batchBytes = 0;
    return batch;
  }
}
