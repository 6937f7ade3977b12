import { joined } from '../joined.ts';

/**
 * Footers of eStargz: an empty gzip member whose extra field tells where the TOC is, by
 * stargz-snapshotter's `docs/estargz.md`, "Footer".
 *
 * ```
 * 1f 8b 08 04 00000000 00 ff | XLEN le16 | extra | 01 00 00 ff ff | CRC32 0 | ISIZE 0
 * estargz   51 bytes  extra = "SG" le16(22) hex16(offset) "STARGZ"
 * legacy    47 bytes  extra =               hex16(offset) "STARGZ"
 * external  46 bytes  extra = "SG" le16(17) "STARGZEXTERNALTOC"
 * ```
 */
export type Footer =
  | { readonly kind: 'estargz' | 'legacy'; readonly sizeBytes: number; readonly tocOffset: number }
  | { readonly kind: 'external'; readonly sizeBytes: number };

/** The longest of the three: reading so many bytes at the end is enough for each. */
export const FOOTER_BYTES = 51;
const LEGACY_BYTES = 47;
const EXTERNAL_BYTES = 46;
const MAGIC = 'STARGZ';
const EXTERNAL_MAGIC = 'STARGZEXTERNALTOC';
const HEAD = Uint8Array.of(0x1f, 0x8b, 0x08, 0x04, 0, 0, 0, 0, 0, 0xff);
/** A stored empty last block, then CRC-32 and length of nothing. */
const TAIL = Uint8Array.of(0x01, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0);

/** The 51 bytes at the end of an eStargz blob. `tocOffset`: where the TOC's gzip member begins. */
export function estargzFooter(tocOffset: number): Uint8Array {
  return footer(withSubfield(`${tocOffset.toString(16).padStart(16, '0')}${MAGIC}`));
}

/** The 46 bytes at the end of a blob whose TOC lies in another image. */
export function externalTocFooter(): Uint8Array {
  return footer(withSubfield(EXTERNAL_MAGIC));
}

/**
 * Reads the footer at the end of `tail`, the last bytes of a blob (51 are enough). Bytes of the gzip header that
 * readers ignore (time, OS) are not compared. @returns undefined where there is none
 */
export function parseFooter(tail: Uint8Array): Footer | undefined {
  const offset = offsetOf(extraOf(tail, FOOTER_BYTES), true);
  if (offset !== undefined) return { kind: 'estargz', sizeBytes: FOOTER_BYTES, tocOffset: offset };
  const external = extraOf(tail, EXTERNAL_BYTES);
  if (external !== undefined && latin1(subfieldOf(external) ?? new Uint8Array()) === EXTERNAL_MAGIC)
    return { kind: 'external', sizeBytes: EXTERNAL_BYTES };
  const legacy = offsetOf(extraOf(tail, LEGACY_BYTES), false);
  return legacy === undefined ? undefined : { kind: 'legacy', sizeBytes: LEGACY_BYTES, tocOffset: legacy };
}

function footer(extra: Uint8Array): Uint8Array {
  const length = Uint8Array.of(extra.length & 0xff, extra.length >> 8);
  return joined([HEAD, length, extra, TAIL]);
}

function withSubfield(text: string): Uint8Array {
  const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
  return joined([Uint8Array.of(0x53, 0x47, bytes.length & 0xff, bytes.length >> 8), bytes]);
}

/** The extra field of a footer of this length, if the rest of it is that of an empty member. */
function extraOf(tail: Uint8Array, sizeBytes: number): Uint8Array | undefined {
  if (tail.length < sizeBytes) return undefined;
  const bytes = tail.subarray(tail.length - sizeBytes);
  for (let at = 0; at < 4; at += 1) if (bytes[at] !== HEAD[at]) return undefined;
  const extraBytes = bytes[10]! | (bytes[11]! << 8);
  if (12 + extraBytes + TAIL.length !== sizeBytes) return undefined;
  for (let at = 0; at < TAIL.length; at += 1) if (bytes[12 + extraBytes + at] !== TAIL[at]) return undefined;
  return bytes.subarray(12, 12 + extraBytes);
}

function subfieldOf(extra: Uint8Array): Uint8Array | undefined {
  const length = extra[2]! | (extra[3]! << 8);
  if (extra[0] !== 0x53 || extra[1] !== 0x47 || length !== extra.length - 4) return undefined;
  return extra.subarray(4);
}

function offsetOf(extra: Uint8Array | undefined, inSubfield: boolean): number | undefined {
  const field = extra === undefined ? undefined : inSubfield ? subfieldOf(extra) : extra;
  const match = field === undefined ? null : /^([0-9a-f]{16})STARGZ$/.exec(latin1(field));
  if (match === null) return undefined;
  const offset = Number.parseInt(match[1]!, 16);
  return Number.isSafeInteger(offset) ? offset : undefined;
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
