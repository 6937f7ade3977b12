import { Readable } from 'node:stream';
import { zstdCompressSync } from 'node:zlib';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { createZstdFrames } from '../../src/zstd/zstd-stream.ts';

/** What comes out of these bytes, given in pieces of this length. */
async function inflated(blob: Buffer, step: number): Promise<Buffer> {
  const pieces = Array.from({ length: Math.ceil(blob.length / step) }, (_, index) =>
    blob.subarray(index * step, (index + 1) * step),
  );
  const stream = createZstdFrames();
  Readable.from(pieces).pipe(stream);
  return Buffer.concat((await stream.toArray()) as Buffer[]);
}

/** A skippable frame (RFC 8878, 3.1.2) of these bytes. */
function skippableFrame(bytes: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d2a50, 0);
  head.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([head, bytes]);
}

const skip = skippableFrame(Buffer.from('not part of it'));

t.test('all frames come out, whatever the pieces; skippable ones do not', async (t) => {
  const part = fc.oneof(
    fc.constant(undefined),
    fc.record({ text: fc.string({ maxLength: 40 }), times: fc.nat(3000) }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(part, { maxLength: 6 }),
      fc.integer({ min: 1, max: 600 }),
      async (parts, step) => {
        const raw = parts.map((one) => Buffer.from(one === undefined ? '' : one.text.repeat(one.times)));
        const frames = parts.map((one, index) => (one === undefined ? skip : zstdCompressSync(raw[index]!)));
        if (!(await inflated(Buffer.concat(frames), step)).equals(Buffer.concat(raw)))
          throw new Error('differs');
      },
    ),
    { numRuns: 60 },
  );
  const long = Buffer.alloc(20 * 1024 * 1024, 'long');
  const both = Buffer.concat([zstdCompressSync(long), zstdCompressSync(Buffer.from('end'))]);
  t.ok((await inflated(both, both.length)).equals(Buffer.concat([long, Buffer.from('end')])), 'a long frame');
});

t.test('what is cut or damaged is an error, never a shorter content', async (t) => {
  const whole = Buffer.concat([zstdCompressSync(Buffer.from('one'.repeat(9))), skip, zstdCompressSync(skip)]);
  const ends = [zstdCompressSync(Buffer.from('one'.repeat(9))).length, 0];
  ends.push(ends[0]! + skip.length);
  for (let length = 1; length < whole.length; length += 1)
    if (!ends.includes(length)) await t.rejects(inflated(whole.subarray(0, length), 7), `${length} bytes`);
  await t.rejects(inflated(Buffer.concat([whole, Buffer.from('more')]), 50), { code: 'LAYER_INVALID' });
});
