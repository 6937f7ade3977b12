import { CodedError } from '@sepia/base/errors';

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
/** Block type "RLE" (RFC 8878, 3.1.1.2.2): one byte stands for many. */
const RLE = 1;

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
  if (bytes.length < 5) return { length: 5, isWhole: false, isSkippable: false };
  const magic = bytes.readUInt32LE(0);
  if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) {
    const length = bytes.length < 8 ? 8 : 8 + bytes.readUInt32LE(4);
    return { length, isWhole: bytes.length >= 8 && bytes.length >= length, isSkippable: true };
  }
  if (magic !== MAGIC) invalidZstd('no frame begins here');
  const descriptor = bytes[4]!;
  if ((descriptor & 8) !== 0) invalidZstd('reserved bit of a frame');
  let at = 5 + headerRest(descriptor);
  for (;;) {
    if (bytes.length < at + 3) return { length: at + 3, isWhole: false, isSkippable: false };
    const block = bytes.readUIntLE(at, 3);
    const kind = (block >> 1) & 3;
    if (kind === 3) invalidZstd('unknown kind of block');
    at += 3 + (kind === RLE ? 1 : block >> 3);
    if ((block & 1) === 1) break;
  }
  const length = at + ((descriptor & 4) !== 0 ? 4 : 0);
  return { length, isWhole: bytes.length >= length, isSkippable: false };
}

/** Length of the frame header after its descriptor: window, dictionary id, content size. */
function headerRest(descriptor: number): number {
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 2 ** sizeFlag;
  return (isSingleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]! + sizeBytes;
}

export function invalidZstd(what: string): never {
  throw new CodedError('LAYER_INVALID', { message: `zstd data is not valid: ${what}`, detail: {} });
}
