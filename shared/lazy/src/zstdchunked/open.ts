import { digestOf } from '@sepia/base/digest';
import { CodedError, systemCode } from '@sepia/base/errors';
import { isZstdFault } from '@sepia/base/zstd/zstd-frame';
import { createZstdFrames } from '@sepia/base/zstd/zstd-stream';
import { type LayerFile, layoutOf } from '../estargz/layout.ts';
import { parseToc } from '../estargz/toc.ts';
import type { ReadAt } from '../pack/inflate.ts';
import {
  FRAME_HEAD_BYTES,
  frameHead,
  parseZstdFooter,
  type Stretch,
  ZSTD_FOOTER_BYTES,
  type ZstdFooter,
} from './footer.ts';

/** What the end of a zstd:chunked layer tells about all of it. */
export interface OpenedZstdChunked {
  readonly footer: ZstdFooter;
  /** `sha256:…` of the compressed TOC. Nothing below is to be believed before it was compared with a trusted one. */
  readonly tocChecksum: string;
  /** `sha256:…` of the TOC's uncompressed bytes. */
  readonly tocDigest: string;
  readonly files: readonly LayerFile[];
  /** Where the last frame of the data ends. */
  readonly dataEnd: number;
  /** `sha256:…` of the compressed tar-split, by the TOC. */
  readonly tarSplitDigest: string | undefined;
  /** Where the tar-split is: what stands between TOC and footer. */
  readonly tarSplit: { readonly offset: number; readonly sizeBytes: number } | undefined;
}

/** Longest TOC, and longest tar-split, compressed and uncompressed. */
const MAX_BYTES = 256 * 1024 * 1024;

/**
 * Reads footer and TOC of a zstd:chunked layer, ours, containers/storage's or stargz-snapshotter's. Nothing may stand
 * between its data, its TOC, its tar-split and its footer.
 * @throws {CodedError} `LAYER_INVALID` where it is none, `MANIFEST_SYNTAX` where its TOC is wrong
 */
export async function openZstdChunked(blob: {
  readonly sizeBytes: number;
  readonly read: ReadAt;
}): Promise<OpenedZstdChunked> {
  const tailBytes = Math.min(ZSTD_FOOTER_BYTES, blob.sizeBytes);
  const footer = parseZstdFooter(await blob.read(blob.sizeBytes - tailBytes, tailBytes));
  if (footer === undefined) throw invalid('has no zstd:chunked footer');
  const footerAt = blob.sizeBytes - footer.sizeBytes;
  const dataEnd = footer.toc.offset - FRAME_HEAD_BYTES;
  const tocEnd = footer.toc.offset + footer.toc.sizeBytes;
  if (dataEnd < 0 || tocEnd > footerAt) throw invalid('has a footer that points out of it');
  await checkFrame(blob.read, footer.toc, 'TOC');
  const packed = await blob.read(footer.toc.offset, footer.toc.sizeBytes);
  const json = await inflated(packed, footer.toc.rawBytes, 'TOC');
  const { entries, tarSplitDigest } = parseToc(json);
  const tarSplit = tocEnd === footerAt ? undefined : between(tocEnd, footerAt);
  if (tarSplit !== undefined) await checkFrame(blob.read, tarSplit, 'tar-split');
  const files = layoutOf(entries, dataEnd, true);
  return {
    footer,
    tocChecksum: digestOf(packed),
    tocDigest: digestOf(json),
    files,
    dataEnd,
    tarSplitDigest,
    tarSplit,
  };
}

/** A TOC or tar-split, decompressed. @throws {CodedError} `LAYER_INVALID` */
export async function inflated(
  packed: Uint8Array,
  rawBytes: number | undefined,
  what: string,
): Promise<Buffer> {
  if (packed.length > MAX_BYTES || (rawBytes ?? 0) > MAX_BYTES)
    throw invalid(`has a ${what} of more than 256 MiB`);
  const stream = createZstdFrames();
  stream.end(packed);
  const pieces: Buffer[] = [];
  let length = 0;
  try {
    for await (const bytes of stream as AsyncIterable<Buffer>) {
      length += bytes.length;
      if (length > MAX_BYTES) throw invalid(`has a ${what} of more than 256 MiB`);
      pieces.push(bytes);
    }
  } catch (error) {
    if (!isZstdFault(error)) throw error;
    throw invalid(`has a ${what} that cannot be decompressed (${systemCode(error)})`);
  }
  if (rawBytes !== undefined && length !== rawBytes)
    throw invalid(`has a ${what} of ${length} bytes; its footer says ${rawBytes}`);
  return Buffer.concat(pieces);
}

function between(from: number, to: number): { offset: number; sizeBytes: number } {
  const sizeBytes = to - from - FRAME_HEAD_BYTES;
  if (sizeBytes < 0) throw invalid('has bytes between its TOC and its footer');
  return { offset: from + FRAME_HEAD_BYTES, sizeBytes };
}

/** A skippable frame that holds exactly this. */
async function checkFrame(
  read: ReadAt,
  { offset, sizeBytes }: Pick<Stretch, 'offset' | 'sizeBytes'>,
  what: string,
): Promise<void> {
  if (sizeBytes > MAX_BYTES) throw invalid(`has a ${what} of more than 256 MiB`);
  const head = await read(offset - FRAME_HEAD_BYTES, FRAME_HEAD_BYTES);
  if (Buffer.compare(head, frameHead(sizeBytes)) !== 0)
    throw invalid(`has no frame of its own for its ${what}`);
}

function invalid(what: string): CodedError {
  return new CodedError('LAYER_INVALID', { message: `the layer ${what}` });
}
