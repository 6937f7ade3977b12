import { joined } from '../joined.ts';

/** A run of compressed bytes of a blob, and how many they are decompressed. */
export interface Stretch {
  readonly offset: number;
  readonly sizeBytes: number;
  /** Length of what it is decompressed. */
  readonly rawBytes: number;
}

/**
 * What the end of a zstd:chunked blob says. Two programs write two footers, each in a skippable frame of its own:
 *
 * ```
 * 50 2a 4d 18 | le32 length | …
 * stargz-snapshotter  40 bytes  TOC: offset, size, raw size │ type │ "GnUlInUx"
 * containers/storage  64 bytes  TOC: offset, size, raw size │ type │ tar-split: offset, size, raw size │ "GNUlInUx"
 * ```
 * All numbers are le64. Ours is the first: only stargz-snapshotter reads a footer (see ADR 58).
 */
export interface ZstdFooter {
  /** Length of its frame. */
  readonly sizeBytes: number;
  readonly toc: Stretch;
  readonly tarSplit?: Stretch;
}

/** Length of what stands before the content of a skippable frame: its magic and its length. */
export const FRAME_HEAD_BYTES = 8;
const MAGIC = Uint8Array.of(0x50, 0x2a, 0x4d, 0x18);
/** The only type of TOC there is (CRFS, as eStargz has it). */
const TOC_TYPE = 1;
const STARGZ = { bytes: 40, magic: 'GnUlInUx' } as const;
const CONTAINERS = { bytes: 64, magic: 'GNUlInUx' } as const;
/** The end of a blob that {@link parseZstdFooter} looks at. */
export const ZSTD_FOOTER_BYTES = FRAME_HEAD_BYTES + CONTAINERS.bytes;

/** A skippable frame (RFC 8878, 3.1.2): decoders leave it out. */
export function skippableFrame(content: Uint8Array): Uint8Array {
  return joined([frameHead(content.length), content]);
}

/** What stands before so many bytes of a skippable frame. */
export function frameHead(contentBytes: number): Uint8Array {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, contentBytes, true);
  return joined([MAGIC, length]);
}

/** The last frame of a blob: where its TOC is. */
export function zstdFooter({ offset, sizeBytes, rawBytes }: Stretch): Uint8Array {
  const content = Buffer.alloc(STARGZ.bytes);
  for (const [index, value] of [offset, sizeBytes, rawBytes, TOC_TYPE].entries())
    content.writeBigUInt64LE(BigInt(value), index * 8);
  content.write(STARGZ.magic, 32, 'latin1');
  return skippableFrame(content);
}

/** Reads either footer at the end of `tail`, the last bytes of a blob. @returns undefined where there is none */
export function parseZstdFooter(tail: Uint8Array): ZstdFooter | undefined {
  const bytes = Buffer.from(tail.buffer, tail.byteOffset, tail.byteLength);
  for (const { bytes: size, magic } of [STARGZ, CONTAINERS]) {
    const frame = FRAME_HEAD_BYTES + size;
    const start = bytes.length - frame;
    if (start < 0 || !bytes.subarray(start, start + 4).equals(MAGIC)) continue;
    if (bytes.readUInt32LE(start + 4) !== size) continue;
    if (bytes.toString('latin1', bytes.length - 8) !== magic) continue;
    const numbers = Array.from({ length: size / 8 - 1 }, (_, index) =>
      Number(bytes.readBigUInt64LE(start + FRAME_HEAD_BYTES + index * 8)),
    );
    if (!numbers.every(Number.isSafeInteger) || numbers[3] !== TOC_TYPE) return undefined;
    const [offset = 0, sizeBytes = 0, rawBytes = 0, , ...split] = numbers;
    const toc = { offset, sizeBytes, rawBytes };
    if (size === STARGZ.bytes) return { sizeBytes: frame, toc };
    const tarSplit = { offset: split[0]!, sizeBytes: split[1]!, rawBytes: split[2]! };
    return { sizeBytes: frame, toc, tarSplit };
  }
  return undefined;
}
