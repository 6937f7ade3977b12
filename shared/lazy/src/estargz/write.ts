import { createHash } from 'node:crypto';
import { readElsewhere } from '@sepia/base/failure';
import { COMPRESSION_LEVELS } from '@sepia/oci/compression-levels';
import { freeOwn, type Packed, type Packer, type PackJob } from '../pack/batch.ts';
import type { ByteString } from '../tar/byte-string.ts';
import { EMPTY_HEADER, encodeHeader, zerosAfter } from '../tar/encode-header.ts';
import type { OutEntry } from './arrange.ts';
import { type Batch, type CutOptions, cutMembers, type PackBatch } from './cut.ts';
import { estargzFooter, externalTocFooter } from './footer.ts';
import { lengthOf, type Part } from './part.ts';
import { TOC_NAME } from './toc.ts';
import { TocBuilder } from './toc-builder.ts';

/** Where the bytes of the source tar are read from. */
export interface TarBytes {
  readonly sizeBytes: number;
  /** Exactly the bytes `[offset, offset + into.length)`; rejects where the source is shorter. */
  readInto(into: Uint8Array, offset: number): Promise<void>;
}

/**
 * Takes the bytes of the blob in order; what it returns is awaited, so that a slow taker slows the writer. They are good until
 * then: their memory is used again, or freed.
 */
export type TakeBytes = (bytes: Uint8Array) => Promise<void> | void;

/** How an eStargz layer is written. Sizes are uncompressed bytes, as in {@link CutOptions}. */
export interface EstargzOptions {
  /** gzip level 0–9. */
  readonly level: number;
  readonly chunkBytes: number;
  readonly minChunkBytes: number;
  /** True: the TOC is not in the blob but in {@link EstargzResult.externalToc}. */
  readonly externalToc: boolean;
}

export const ESTARGZ_DEFAULTS: EstargzOptions = {
  level: COMPRESSION_LEVELS.estargz.usual,
  chunkBytes: 4 * 1024 * 1024,
  minChunkBytes: 0,
  externalToc: false,
};

/** What was written: digests and sizes that manifest, config and annotations name. */
export interface EstargzResult {
  /** `sha256:…` of the blob. */
  readonly digest: string;
  readonly sizeBytes: number;
  /** `sha256:…` of the uncompressed stream. */
  readonly diffId: string;
  readonly uncompressedBytes: number;
  /** `sha256:…` of the uncompressed TOC. */
  readonly tocDigest: string;
  /** A gzip member with a tar that holds the TOC, where it is not in the blob. */
  readonly externalToc?: Uint8Array;
}

/** What a layer is written from and to. */
export interface WriteDeps {
  readonly source: TarBytes;
  readonly packer: Packer;
  readonly take: TakeBytes;
  /** Told how many uncompressed bytes are done, more at each call. */
  readonly progress?: (uncompressedBytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Two zero blocks end an archive. */
const END_OF_TAR_BYTES = 1024;

/**
 * Writes an eStargz layer. The bytes depend on the entries, their content and the options only, whatever the packer's
 * number of threads. Memory: a few batches (each up to one chunk and 1 MiB) per thread, and the TOC.
 * `trailer`: parts that follow the last entry instead of an end of archive (a layer that keeps its bytes).
 */
export async function writeEstargz(
  deps: WriteDeps,
  entries: readonly OutEntry[],
  options: EstargzOptions,
  trailer: readonly Part[] = [],
): Promise<EstargzResult> {
  const out = new LayerOutput(deps);
  const toc = new TocBuilder();
  const cut: CutOptions = { ...options, tarBytes: deps.source.sizeBytes, trailer };
  await packTar(deps, cutMembers(entries, cut), { format: 'gzip', level: options.level }, { out, toc });
  const { bytes: tar, digest: tocDigest } = toc.finish(undefined, asTar);
  const tocMember = await deps.packer.pack({
    raw: tar,
    members: [tar.length],
    digests: [],
    format: 'gzip',
    level: options.level,
  });
  const footer = options.externalToc ? externalTocFooter() : estargzFooter(out.sizeBytes);
  if (!options.externalToc) await out.put(tocMember.raw, tocMember.packed);
  await out.put(new Uint8Array(), footer);
  return {
    ...out.finish(),
    tocDigest,
    ...(options.externalToc ? { externalToc: tocMember.packed } : {}),
  };
}

/** What is known of a blob once it was written. */
type WrittenBlob = Pick<EstargzResult, 'digest' | 'sizeBytes' | 'diffId' | 'uncompressedBytes'>;

/** Hands the bytes of a blob on, and counts and hashes them and what they are uncompressed. */
export class LayerOutput {
  readonly #deps: Pick<WriteDeps, 'take' | 'progress'>;
  readonly #diffId = createHash('sha256');
  readonly #blob = createHash('sha256');
  #rawBytes = 0;
  sizeBytes = 0;

  constructor(deps: Pick<WriteDeps, 'take' | 'progress'>) {
    this.#deps = deps;
  }

  async put(raw: Uint8Array, packed: Uint8Array): Promise<void> {
    this.#diffId.update(raw);
    this.#blob.update(packed);
    this.#rawBytes += raw.length;
    this.sizeBytes += packed.length;
    await this.#deps.take(packed);
    this.#deps.progress?.(this.#rawBytes);
  }

  finish(): WrittenBlob {
    return {
      digest: `sha256:${this.#blob.digest('hex')}`,
      sizeBytes: this.sizeBytes,
      diffId: `sha256:${this.#diffId.digest('hex')}`,
      uncompressedBytes: this.#rawBytes,
    };
  }
}

/** Packs the members of a tar in order, notes in the TOC where each chunk came to stand, and shows `see` the tar's bytes. */
export async function packTar(
  deps: WriteDeps,
  batches: Iterable<Batch>,
  how: Pick<PackJob, 'format' | 'level'>,
  to: {
    readonly out: LayerOutput;
    readonly toc: TocBuilder;
    readonly see?: (raw: Uint8Array) => Promise<void>;
  },
): Promise<void> {
  for await (const { batch, packed } of packBatches(deps, batches, how)) {
    markAll(to.toc, batch, packed, to.out.sizeBytes);
    await to.see?.(packed.raw);
    await to.out.put(packed.raw, packed.packed);
  }
}

/** Batches compressed, in order; a few are in work at once. What is handed out is good until the next is asked for. */
export async function* packBatches<B extends PackBatch>(
  deps: WriteDeps,
  batches: Iterable<B>,
  how: Pick<PackJob, 'format' | 'level'>,
): AsyncGenerator<{ batch: B; packed: Packed }> {
  const queue: { batch: B; packed: Promise<Packed> }[] = [];
  const next = async function* (): AsyncGenerator<{ batch: B; packed: Packed }> {
    const { batch, packed } = queue.shift()!;
    const done = await packed;
    yield { batch, packed: done };
    freeOwn(done.packed);
    freeOwn(done.raw);
  };
  try {
    for (const batch of batches) {
      deps.signal?.throwIfAborted();
      const raw = await read(deps.source, batch);
      const members = batch.members.map((member) => member.sizeBytes);
      const packed = deps.packer.pack({ raw, members, digests: digestsOf(batch), ...how });
      // Awaited in its turn; until then a failure must not count as unhandled.
      readElsewhere(packed);
      queue.push({ batch, packed });
      if (queue.length > deps.packer.width + 1) yield* next();
    }
    while (queue.length > 0) yield* next();
  } finally {
    await Promise.allSettled(queue.map((one) => one.packed));
  }
}

async function read(source: TarBytes, batch: PackBatch): Promise<Uint8Array<ArrayBuffer>> {
  const raw = new Uint8Array(batch.sizeBytes);
  let at = 0;
  for (const part of batch.parts) {
    const length = lengthOf(part);
    if ('from' in part) await source.readInto(raw.subarray(at, at + length), part.from);
    else if ('bytes' in part) raw.set(part.bytes, at);
    at += length;
  }
  return raw;
}

/** Places of the chunks in the batch. */
function digestsOf(batch: PackBatch): [number, number][] {
  const places: [number, number][] = [];
  let at = 0;
  for (const member of batch.members) {
    for (const mark of member.marks)
      if (mark.kind === 'chunk') places.push([at + mark.innerOffset, mark.chunkBytes]);
    at += member.sizeBytes;
  }
  return places;
}

function markAll(toc: TocBuilder, batch: Batch, packed: Packed, blobOffset: number): void {
  const places = digestsOf(batch);
  let offset = blobOffset;
  let index = 0;
  for (const [memberIndex, member] of batch.members.entries()) {
    for (const mark of member.marks) {
      if (mark.kind === 'plain') {
        toc.mark(mark);
        continue;
      }
      const [start, length] = places[index]!;
      const bytes = packed.raw.subarray(start, start + length);
      const endOffset = offset + packed.lengths[memberIndex]!;
      toc.mark(mark, { offset, endOffset, digest: packed.digests[index]!, bytes });
      index += 1;
    }
    offset += packed.lengths[memberIndex]!;
  }
}

/** What stands around a TOC of this length in the tar whose one file it is. */
function asTar(tocBytes: number): { before: Uint8Array; after: number } {
  const before = encodeHeader({ ...EMPTY_HEADER, name: TOC_NAME as ByteString, size: tocBytes });
  return { before, after: zerosAfter(tocBytes).length + END_OF_TAR_BYTES };
}
