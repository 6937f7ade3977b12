import { digestOf } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import {
  type BlobToVerify,
  checkBlob,
  checkContent,
  Findings,
  type Found,
  resultOf,
  type VerifyResult,
} from '../estargz/check-layer.ts';
import { TOC_DIGEST_ANNOTATION } from '../estargz/toc.ts';
import type { TakeRaw } from '../pack/inflate.ts';
import { inflateFrames } from '../zstd/inflate-frames.ts';
import { parseZstdAnnotations, type ZstdAnnotations } from './annotations.ts';
import { TarSplitCheck } from './check-tar-split.ts';
import { inflated, type OpenedZstdChunked, openZstdChunked } from './open.ts';

/** A layer as its manifest and config describe it, and its bytes. */
interface LayerToVerify extends BlobToVerify {
  /** Of its descriptor. */
  readonly annotations: Readonly<Record<string, string>>;
}

/**
 * Checks a zstd:chunked layer whole, as `verifyEstargz` does an eStargz one, and beside: that both sets of annotations, the
 * footer and the frames say the same of where TOC and tar-split are, that each chunk fills frames of its own, and that
 * the tar-split, where there is one, gives the tar byte for byte. Memory: one frame, TOC and tar-split.
 * @throws what `read` throws
 */
export async function verifyZstdChunked(layer: LayerToVerify): Promise<VerifyResult> {
  const findings = new Findings();
  await checkBlob(layer, findings.add);
  let opened: OpenedZstdChunked;
  let split: TarSplitCheck | undefined;
  const said = parseZstdAnnotations(layer.annotations);
  try {
    opened = await openZstdChunked(layer);
    split = await openSplit(layer, opened, said, findings.add);
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID') && !isCoded(error, 'MANIFEST_SYNTAX')) throw error;
    findings.add('toc', error.message);
    return resultOf(findings, []);
  }
  compareAnnotations(said, opened, findings.add);
  const tocDigest = layer.annotations[TOC_DIGEST_ANNOTATION];
  if (tocDigest !== undefined && tocDigest !== opened.tocDigest)
    findings.add('toc', `the TOC has the digest ${opened.tocDigest}; the annotation says ${tocDigest}`);
  const { files, dataEnd } = opened;
  const inflate = (from: number, to: number, take: TakeRaw): Promise<void> =>
    inflateFrames(layer.read, from, to, take);
  const isExact = opened.tarSplitDigest !== undefined;
  await checkContent(
    { files, dataEnd, tarEnd: dataEnd, isExact, inflate, witness: split },
    layer.diffId,
    findings.add,
  );
  split?.end();
  return resultOf(findings, files);
}

async function openSplit(
  { read }: LayerToVerify,
  { tarSplit, tarSplitDigest, footer }: OpenedZstdChunked,
  said: ZstdAnnotations | string | undefined,
  found: Found,
): Promise<TarSplitCheck | undefined> {
  if (tarSplitDigest === undefined) return undefined;
  if (tarSplit === undefined) {
    found('tar-split', 'the TOC names a tar-split that the layer does not have');
    return undefined;
  }
  const packed = await read(tarSplit.offset, tarSplit.sizeBytes);
  if (digestOf(packed) !== tarSplitDigest)
    found('tar-split', `the tar-split does not match its digest in the TOC, ${tarSplitDigest}`);
  const annotated = typeof said === 'object' ? said.tarSplit?.rawBytes : undefined;
  const lines = await inflated(packed, footer.tarSplit?.rawBytes ?? annotated, 'tar-split');
  return new TarSplitCheck(lines, (message) => found('tar-split', `the tar-split: ${message}`));
}

/** What a partial pull goes by are the annotations; all else must say the same. */
function compareAnnotations(
  said: ZstdAnnotations | string | undefined,
  { footer, tocChecksum, tarSplit }: OpenedZstdChunked,
  found: Found,
): void {
  if (typeof said === 'string') found('toc', `the layer: ${said}`);
  if (said === undefined || typeof said === 'string') return;
  if (said.tocChecksum !== tocChecksum)
    found('toc', `the compressed TOC has the digest ${tocChecksum}; the annotation says ${said.tocChecksum}`);
  const { toc, tarSplit: split } = said;
  const { offset, sizeBytes, rawBytes } = footer.toc;
  if (
    toc !== undefined &&
    (toc.offset !== offset || toc.sizeBytes !== sizeBytes || toc.rawBytes !== rawBytes)
  )
    found('toc', 'the annotated position of the TOC is not the one of the footer');
  if (split !== undefined && (split.offset !== tarSplit?.offset || split.sizeBytes !== tarSplit.sizeBytes))
    found('tar-split', 'the annotated position of the tar-split is not where it is');
}
