import { createHash } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';
import { inflateMembers, type ReadAt } from '../pack/inflate.ts';
import { TarReader } from '../tar/tar-reader.ts';
import { FOOTER_BYTES, type Footer, parseFooter } from './footer.ts';
import { type LayerFile, layoutOf } from './layout.ts';
import { parseToc, TOC_NAME } from './toc.ts';

/** A layer that is read by ranges. */
export interface EstargzBlob {
  readonly sizeBytes: number;
  readonly read: ReadAt;
  /** The gzip member with the TOC, where the blob does not hold it. */
  readonly externalToc?: Uint8Array | undefined;
}

/** What the end of an eStargz layer tells about all of it. */
export interface OpenedEstargz {
  readonly footer: Footer;
  /** `sha256:…` of the TOC's exact bytes. Nothing below is to be believed before it was compared with a trusted one. */
  readonly tocDigest: string;
  readonly files: readonly LayerFile[];
  /** Where the last member of the data ends. */
  readonly dataEnd: number;
}

/** Longest TOC, uncompressed. */
const MAX_TOC_BYTES = 1024 * 1024 * 1024;

/**
 * Reads footer and TOC of an eStargz layer: two reads at its end.
 * @throws {CodedError} `LAYER_INVALID` where it is none, `MANIFEST_SYNTAX` where its TOC is wrong
 */
export async function openEstargz(blob: EstargzBlob): Promise<OpenedEstargz> {
  const tailBytes = Math.min(FOOTER_BYTES, blob.sizeBytes);
  const footer = parseFooter(await blob.read(blob.sizeBytes - tailBytes, tailBytes));
  if (footer === undefined) throw invalid('has no eStargz footer');
  const end = blob.sizeBytes - footer.sizeBytes;
  if (footer.kind === 'external' && blob.externalToc === undefined)
    throw invalid('has its TOC in another image, which was not given');
  if (footer.kind !== 'external' && footer.tocOffset >= end)
    throw invalid('has a footer that points behind its end');
  const dataEnd = footer.kind === 'external' ? end : footer.tocOffset;
  const json =
    footer.kind === 'external'
      ? await tocOf(
          async (at, length) => blob.externalToc!.subarray(at, at + length),
          0,
          blob.externalToc!.length,
        )
      : await tocOf(blob.read, footer.tocOffset, end);
  const tocDigest = `sha256:${createHash('sha256').update(json).digest('hex')}`;
  return { footer, tocDigest, files: layoutOf(parseToc(json).entries, dataEnd), dataEnd };
}

/** The JSON: the one file of the tar in this member. */
async function tocOf(read: ReadAt, from: number, to: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  let entries = 0;
  const reader = new TarReader({
    entry: (entry) => {
      entries += 1;
      if (entry.name !== TOC_NAME || entries > 1)
        throw invalid(`holds ${JSON.stringify(entry.name.slice(0, 100))} where its TOC should be`);
    },
    payload: (bytes) => {
      length += bytes.length;
      if (length > MAX_TOC_BYTES) throw invalid('has a TOC of more than 1 GiB');
      pieces.push(Buffer.from(bytes));
    },
  });
  await inflateMembers(read, from, to, (bytes) => reader.push(bytes));
  reader.end();
  if (entries === 0) throw invalid('has no TOC where its footer points');
  return Buffer.concat(pieces);
}

function invalid(what: string): CodedError {
  return new CodedError('LAYER_INVALID', { message: `the layer ${what}` });
}
