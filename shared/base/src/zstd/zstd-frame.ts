import { CodedError, systemCode } from '../errors.ts';

/** Begins a frame, little endian: bytes 28 b5 2f fd (RFC 8878, 3.1.1). */
export const ZSTD_MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
/** Block type "RLE" (RFC 8878, 3.1.1.2.2): one byte stands for many. */
const RLE = 1;
/** Bytes that tell how long the head of a zstd frame is: the magic number (4) and the descriptor (1). */
export const HEAD_BYTES = 5;

/** What can be said of the frame that some bytes begin with. */
export interface ZstdFrame {
  /** Bytes of the frame, or, where it is not all there, at least so many are needed to say more. */
  readonly length: number;
  readonly isWhole: boolean;
  readonly isSkippable: boolean;
}

/**
 * The zstd frame that `bytes` begin with (RFC 8878, 3.1), by its header and block headers; nothing is decompressed.
 * @throws {CodedError} `LAYER_INVALID` where none begins here
 */
export function zstdFrame(bytes: Buffer): ZstdFrame {
  if (bytes.length < HEAD_BYTES) return { length: HEAD_BYTES, isWhole: false, isSkippable: false };
  const magic = bytes.readUInt32LE(0);
  if (isSkippableMagic(magic)) {
    const length = bytes.length < 8 ? 8 : 8 + bytes.readUInt32LE(4);
    return { length, isWhole: bytes.length >= 8 && bytes.length >= length, isSkippable: true };
  }
  if (magic !== ZSTD_MAGIC) invalidZstd('no frame begins here');
  const descriptor = bytes[4]!;
  let at = HEAD_BYTES + headerRest(descriptor);
  for (;;) {
    if (bytes.length < at + 3) return { length: at + 3, isWhole: false, isSkippable: false };
    const { sizeBytes, isLast } = blockOf(bytes.subarray(at));
    at += 3 + sizeBytes;
    if (isLast) break;
  }
  const length = at + ((descriptor & 4) !== 0 ? 4 : 0);
  return { length, isWhole: bytes.length >= length, isSkippable: false };
}

/** True for the magic number of a skippable frame (RFC 8878, 3.1.2). */
export function isSkippableMagic(magic: number): boolean {
  return (magic & 0xfffffff0) >>> 0 === SKIPPABLE;
}

/** Length of the frame header after its descriptor: window, dictionary id, content size. @throws {CodedError} `LAYER_INVALID` */
export function headerRest(descriptor: number): number {
  if ((descriptor & 8) !== 0) invalidZstd('reserved bit of a frame');
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 2 ** sizeFlag;
  return (isSingleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]! + sizeBytes;
}

/** What the header of a block says. @throws {CodedError} `LAYER_INVALID` */
export function blockOf(head: Buffer): { readonly sizeBytes: number; readonly isLast: boolean } {
  const block = head.readUIntLE(0, 3);
  const kind = (block >> 1) & 3;
  if (kind === 3) invalidZstd('unknown kind of block');
  return { sizeBytes: kind === RLE ? 1 : block >> 3, isLast: (block & 1) === 1 };
}

/** @throws {CodedError} always: bytes that are no zstd; `what`: the part that is wrong */
export function invalidZstd(what: string): never {
  throw new CodedError('LAYER_INVALID', { message: `zstd data is not valid: ${what}`, detail: {} });
}

/** True for what Node's zlib throws where the data is at fault: damaged, cut (`Z_BUF_ERROR`), or longer than it may be. */
export function isZstdFault(error: unknown): boolean {
  const code = systemCode(error) ?? '';
  return /^(?:ZSTD|Z)_/.test(code) || code === 'ERR_BUFFER_TOO_LARGE';
}
