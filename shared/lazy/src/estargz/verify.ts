import { isCoded } from '@sepia/base/errors';
import { inflateMembers, type TakeRaw } from '../pack/inflate.ts';
import {
  type BlobToVerify,
  checkBlob,
  checkContent,
  Findings,
  resultOf,
  type VerifyResult,
} from './check-layer.ts';
import { type OpenedEstargz, openEstargz } from './open.ts';

/** A layer as its manifest and config describe it, and its bytes. */
interface LayerToVerify extends BlobToVerify {
  /** `sha256:…` of the TOC: the annotation. */
  readonly tocDigest?: string | undefined;
  /** The gzip member with the TOC, where the blob does not hold it. */
  readonly externalToc?: Uint8Array | undefined;
}

/**
 * Checks an eStargz layer whole: the blob's digest; footer and TOC; that its members are one legal tar with the right
 * DiffID; every chunk, inflated from its own offset, and every file against its digest; that TOC and tar say the same of
 * the same entries; the landmark. Memory: one member, and the TOC. Findings stop at 100.
 * @throws what `read` throws
 */
export async function verifyEstargz(layer: LayerToVerify): Promise<VerifyResult> {
  const findings = new Findings();
  await checkBlob(layer, findings.add);
  let opened: OpenedEstargz;
  try {
    opened = await openEstargz(layer);
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID') && !isCoded(error, 'MANIFEST_SYNTAX')) throw error;
    findings.add('toc', error.message);
    return resultOf(findings, []);
  }
  const { tocDigest, footer, files, dataEnd } = opened;
  if (layer.tocDigest !== undefined && tocDigest !== layer.tocDigest)
    findings.add('toc', `the TOC has the digest ${tocDigest}; the annotation says ${layer.tocDigest}`);
  const hasTocInTar = footer.kind !== 'external';
  const tarEnd = hasTocInTar ? layer.sizeBytes - footer.sizeBytes : dataEnd;
  const inflate = (from: number, to: number, take: TakeRaw): Promise<void> =>
    inflateMembers(layer.read, from, to, take);
  const inTar = await checkContent(
    { files, dataEnd, tarEnd, isExact: false, inflate },
    layer.diffId,
    findings.add,
  );
  if (hasTocInTar && inTar !== tocDigest)
    findings.add('toc', 'the TOC of the tar is not the one that the footer points to');
  return resultOf(findings, files);
}
