import { digestOf } from '@sepia/base/digest';
import type { OutEntry } from '../estargz/arrange.ts';
import { type CutOptions, cutMembers } from '../estargz/cut.ts';
import type { Part } from '../estargz/part.ts';
import { TocBuilder } from '../estargz/toc-builder.ts';
import {
  type EstargzOptions,
  type EstargzResult,
  LayerOutput,
  packTar,
  type WriteDeps,
} from '../estargz/write.ts';
import { joined } from '../joined.ts';
import type { Packer } from '../pack/batch.ts';
import { zstdAnnotations } from './annotations.ts';
import { FRAME_HEAD_BYTES, type Stretch, skippableFrame, zstdFooter } from './footer.ts';
import { TarSplitWriter } from './tar-split.ts';

/** A zstd:chunked layer that was written; its TOC is always in the layer. */
export interface ZstdChunkedResult extends Omit<EstargzResult, 'externalToc'> {
  /** What the descriptor of the layer has to say. */
  readonly annotations: Readonly<Record<string, string>>;
}

/**
 * Writes a zstd:chunked layer: the tar in frames that begin and end with each chunk of content, then, in skippable frames,
 * the TOC, the tar-split and the footer (ADR 58). Bytes and memory as `writeEstargz`, and the compressed tar-split.
 */
export async function writeZstdChunked(
  deps: WriteDeps,
  entries: readonly OutEntry[],
  { level, chunkBytes }: Pick<EstargzOptions, 'level' | 'chunkBytes'>,
  trailer: readonly Part[],
): Promise<ZstdChunkedResult> {
  const how = { format: 'zstd', level } as const;
  const out = new LayerOutput(deps);
  const toc = new TocBuilder(true);
  const split = new SplitPacker(deps.packer, level);
  const splitter = new TarSplitWriter(entries, (line) => split.add(line));
  const see = async (raw: Uint8Array): Promise<void> => {
    splitter.push(raw);
    await split.packFull();
  };
  const tarBytes = deps.source.sizeBytes;
  const cut: CutOptions = { chunkBytes, minChunkBytes: 0, isExact: true, tarBytes, trailer };
  await packTar(deps, cutMembers(entries, cut), how, { out, toc, see });
  splitter.end();
  const tarSplit = await split.finish();
  const whole = toc.finish(`\n],"tarSplitDigest":"${digestOf(tarSplit.packed)}"}`);
  const { digest: tocDigest, tocBytes: tocRawBytes } = whole;
  const packedToc = await packWhole(deps.packer, whole.bytes, level);
  const none = new Uint8Array();
  const tocAt: Stretch = {
    offset: out.sizeBytes + FRAME_HEAD_BYTES,
    sizeBytes: packedToc.length,
    rawBytes: tocRawBytes,
  };
  await out.put(none, skippableFrame(packedToc));
  const splitAt: Stretch = {
    offset: out.sizeBytes + FRAME_HEAD_BYTES,
    sizeBytes: tarSplit.packed.length,
    rawBytes: tarSplit.rawBytes,
  };
  await out.put(none, skippableFrame(tarSplit.packed));
  await out.put(none, zstdFooter(tocAt));
  return { ...out.finish(), tocDigest, annotations: zstdAnnotations(digestOf(packedToc), tocAt, splitAt) };
}

/** Text that is compressed as it comes, in frames of a fixed length: no more than one of them is kept as text. */
class SplitPacker {
  readonly #packer: Packer;
  readonly #level: number;
  #text: string[] = [];
  #textLength = 0;
  #rawBytes = 0;
  readonly #packed: Uint8Array[] = [];

  constructor(packer: Packer, level: number) {
    this.#packer = packer;
    this.#level = level;
  }

  add(line: string): void {
    this.#text.push(line);
    this.#textLength += line.length;
  }

  async packFull(): Promise<void> {
    if (this.#textLength >= SPLIT_FRAME_BYTES) await this.#pack();
  }

  async finish(): Promise<{ packed: Uint8Array; rawBytes: number }> {
    if (this.#textLength > 0) await this.#pack();
    return { packed: joined(this.#packed), rawBytes: this.#rawBytes };
  }

  async #pack(): Promise<void> {
    const bytes = joined([Buffer.from(this.#text.join(''))]);
    this.#text = [];
    this.#textLength = 0;
    this.#rawBytes += bytes.length;
    this.#packed.push(await packWhole(this.#packer, bytes, this.#level));
  }
}

/** A frame of the tar-split is packed once it has this many characters. */
const SPLIT_FRAME_BYTES = 1024 * 1024;

async function packWhole(packer: Packer, raw: Uint8Array, level: number): Promise<Uint8Array> {
  const job = { raw: raw as Uint8Array<ArrayBuffer>, members: [raw.length], digests: [], level };
  return (await packer.pack({ ...job, format: 'zstd' })).packed;
}
