import { constants, crc32, deflateRawSync, gzipSync } from 'node:zlib';
import { fc } from '@sepia/test-support/property';

/** Data with runs, repeats near and far, and noise, up to about `maxBytes`: what makes every kind of block. */
export function arbitraryData(maxBytes: number): fc.Arbitrary<Buffer> {
  const piece = fc.oneof(
    fc.record({ kind: fc.constant('noise' as const), seed: fc.nat(), length: fc.nat(maxBytes / 8) }),
    fc.record({ kind: fc.constant('run' as const), seed: fc.nat(255), length: fc.nat(maxBytes / 8) }),
    fc.record({ kind: fc.constant('text' as const), seed: fc.nat(), length: fc.nat(maxBytes / 8) }),
    fc.record({ kind: fc.constant('again' as const), seed: fc.nat(), length: fc.nat(maxBytes / 8) }),
  );
  return fc.array(piece, { maxLength: 8 }).map((pieces) => {
    let data = Buffer.alloc(0);
    for (const { kind, seed, length } of pieces) {
      const next =
        kind === 'run'
          ? Buffer.alloc(length, seed)
          : kind === 'again'
            ? data.subarray(seed % (data.length + 1)).subarray(0, length)
            : noise(seed, length, kind === 'text' ? 12 : 256);
      data = Buffer.concat([data, next]);
    }
    return data;
  });
}

export const arbitraryDeflate = fc.record({
  level: fc.integer({ min: 0, max: 9 }),
  memLevel: fc.integer({ min: 1, max: 9 }),
  strategy: fc.constantFrom(
    constants.Z_DEFAULT_STRATEGY,
    constants.Z_FIXED,
    constants.Z_HUFFMAN_ONLY,
    constants.Z_RLE,
  ),
});

/** Members of a gzip blob and the bytes in them. */
export function arbitraryGzip(maxBytes: number): fc.Arbitrary<{ blob: Buffer; data: Buffer }> {
  const member = fc
    .tuple(arbitraryData(maxBytes), arbitraryDeflate, fc.nat(31))
    .map(([data, options, flags]) => ({
      data,
      blob: withHeader(gzipSync(data, options), flags),
    }));
  return fc.array(member, { minLength: 1, maxLength: 4 }).map((members) => ({
    blob: Buffer.concat(members.map((one) => one.blob)),
    data: Buffer.concat(members.map((one) => one.data)),
  }));
}

export function rawDeflate(
  data: Buffer,
  options: { level: number; memLevel: number; strategy: number },
): Buffer {
  return deflateRawSync(data, options);
}

/** Pseudo-random bytes below `limit`; the same seed, the same bytes. */
export function noise(seed: number, length: number, limit = 256): Buffer {
  const bytes = Buffer.alloc(length);
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  for (let index = 0; index < length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = (state >>> 8) % limit;
  }
  return bytes;
}

/** The member with the optional parts of its header that `flags` names (header CRC, extra, name, comment). */
function withHeader(member: Buffer, flags: number): Buffer {
  const head = Buffer.from(member.subarray(0, 10));
  head[3] = flags & 0x1e;
  const parts = [head];
  if ((flags & 4) !== 0) parts.push(Buffer.from([3, 0, 1, 2, 3]));
  if ((flags & 8) !== 0) parts.push(Buffer.from('layer.tar\0'));
  if ((flags & 16) !== 0) parts.push(Buffer.from('a comment\0'));
  if ((flags & 2) !== 0) {
    const sum = crc32(Buffer.concat(parts)) & 0xffff;
    parts.push(Buffer.from([sum & 0xff, sum >> 8]));
  }
  return Buffer.concat([...parts, member.subarray(10)]);
}
