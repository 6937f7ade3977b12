import { zstdDecompressSync } from 'node:zlib';
import { giveBack } from '@sepia/base/chunk';
import { systemCode } from '@sepia/base/errors';
import { invalidZstd, isZstdFault, zstdFrame } from '@sepia/base/zstd/zstd-frame';
import type { ReadAt, TakeRaw } from '../pack/inflate.ts';

const READ_BYTES = 1024 * 1024;
/** Longest frame that is looked at, compressed and not. */
const MAX_FRAME_BYTES = 256 * 1024 * 1024;

/**
 * Decompresses the zstd frames that fill `[from, to)` of a blob exactly, one at a time. A skippable frame is no part of a
 * layer's tar and is refused.
 * @throws {CodedError} `LAYER_INVALID`
 */
export async function inflateFrames(read: ReadAt, from: number, to: number, take: TakeRaw): Promise<void> {
  let held = Buffer.alloc(0);
  let heldAt = from;
  for (let at = from; at < to; ) {
    let bytes = held.subarray(at - heldAt);
    let frame = zstdFrame(bytes);
    while (!frame.isWhole) {
      if (at + bytes.length >= to) invalidZstd(`the frame at ${at} is cut short`);
      if (frame.length > MAX_FRAME_BYTES) invalidZstd(`the frame at ${at} is longer than 256 MiB`);
      const more = Math.min(Math.max(frame.length - bytes.length, READ_BYTES), to - at - bytes.length);
      const before = held;
      held = Buffer.concat([bytes, await read(at + bytes.length, more)]);
      // It is ours, as what frames hold is: V8 would find it late, and a layer has thousands.
      giveBack(before);
      heldAt = at;
      bytes = held;
      frame = zstdFrame(bytes);
    }
    if (frame.isSkippable) invalidZstd(`a skippable frame at ${at}, among the layer's own`);
    const raw = inflateFrame(bytes.subarray(0, frame.length), at);
    await take(raw);
    giveBack(raw);
    at += frame.length;
  }
}

/** What one frame holds. @throws {CodedError} `LAYER_INVALID` */
function inflateFrame(frame: Uint8Array, offset: number): Buffer {
  try {
    return zstdDecompressSync(frame, { maxOutputLength: MAX_FRAME_BYTES });
  } catch (error) {
    if (!isZstdFault(error)) throw error;
    invalidZstd(`the frame at ${offset} is damaged (${systemCode(error)})`);
  }
}
