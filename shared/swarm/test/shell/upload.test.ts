import { Bitfield } from '@sepia/base/bitfield';
import t from 'tap';
import { WIRE_LIMITS } from '../../src/limits.ts';
import { BlockBuffers } from '../../src/shell/block-buffers.ts';
import { Upload, type UploadBudget } from '../../src/shell/upload.ts';
import type { HardenedWire } from '../../src/wire/wire.ts';

const BLOCK = WIRE_LIMITS.memberBlockBytes;
const SHARE = WIRE_LIMITS.wireUploadBytes / BLOCK;
const READ = WIRE_LIMITS.uploadReadBytes;
/** A piece that cannot be read. */
const ROTTEN = 50;

interface Read {
  readonly index: number;
  readonly offset: number;
  readonly into: Uint8Array;
}

/** An upload over a wire whose socket takes bytes only when told to. Byte `at` of piece `index` is `index + at / BLOCK`. */
function slowWire(
  budget: UploadBudget = {
    usedBytes: 0,
    limitBytes: WIRE_LIMITS.engineUploadBytes,
    buffers: new BlockBuffers(READ),
  },
) {
  const sent: { index: number; offset: number; bytes: Uint8Array; taken: () => void }[] = [];
  const reads: Read[] = [];
  const rejected: number[] = [];
  const wire = {
    sendBlock: (index: number, offset: number, bytes: Uint8Array, taken: () => void) =>
      void sent.push({ index, offset, bytes, taken }),
    sendReject: (index: number) => void rejected.push(index),
    forgetRequest: () => {},
  } as unknown as HardenedWire;
  const pieces = {
    have: Bitfield.full(64),
    readPiece: async (index: number, offset: number, length: number, into: Uint8Array) => {
      reads.push({ index, offset, into });
      if (index === ROTTEN) throw new Error('rotten');
      for (let at = 0; at < length; at += BLOCK)
        into.fill(index + (offset + at) / BLOCK, at, Math.min(length, at + BLOCK));
      return into;
    },
    writePiece: async () => {},
  };
  return { upload: new Upload({ wire, pieces, budget, onSent: () => {} }), budget, sent, reads, rejected };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

t.test('a wire that takes nothing holds no more than its share, and goes on when it does', async (t) => {
  const { upload, budget, sent, reads } = slowWire();
  for (let index = 0; index < 40; index++) upload.add(index, 0, BLOCK);
  await settle();
  t.ok(sent.length > 0 && sent.length <= SHARE);
  t.equal(budget.usedBytes, reads.length * READ, 'a buffer counts as a whole');
  for (let at = 0; at < 40; at++) {
    const { index, bytes, taken } = sent[at]!;
    t.equal(index, at);
    t.ok(
      bytes.every((byte) => byte === at),
      `block ${at} was not overwritten before it was taken`,
    );
    taken();
    await settle();
    t.ok(sent.length - at - 1 <= SHARE);
  }
  t.equal(sent.length, 40);
  t.equal(budget.usedBytes, 0);
  t.ok(new Set(reads.map(({ into }) => into.buffer)).size <= SHARE, 'buffers are used again');
});

t.test('blocks that follow each other are read at once, and sent one by one', async (t) => {
  const { upload, budget, sent, reads } = slowWire();
  for (let offset = 0; offset < 6 * BLOCK; offset += BLOCK) upload.add(3, offset, BLOCK);
  upload.add(4, 2 * BLOCK, BLOCK);
  upload.add(4, 0, 100);
  for (let at = 0; at < 8; at++) {
    await settle();
    sent[at]!.taken();
  }
  t.strictSame(
    reads.map(({ index, offset, into }) => [index, offset / BLOCK, into.length]),
    [
      [3, 0, 4 * BLOCK],
      [3, 4, 2 * BLOCK],
      [4, 2, BLOCK],
      [4, 0, 100],
    ],
  );
  t.strictSame(
    sent.map(({ index, offset, bytes }) => [index, offset / BLOCK, bytes.length]),
    [0, 1, 2, 3, 4, 5]
      .map((at) => [3, at, BLOCK])
      .concat([
        [4, 2, BLOCK],
        [4, 0, 100],
      ]),
  );
  t.equal(budget.usedBytes, 0);
});

t.test('when the engine has no room each wire still has one read on its way', async (t) => {
  const full = WIRE_LIMITS.engineUploadBytes;
  const { upload, budget, sent } = slowWire({
    usedBytes: full,
    limitBytes: full,
    buffers: new BlockBuffers(READ),
  });
  for (let index = 0; index < 3; index++) upload.add(index, 0, BLOCK);
  await settle();
  t.equal(sent.length, 1);
  sent[0]!.taken();
  await settle();
  t.equal(sent.length, 2);
  upload.stop();
  sent[1]!.taken();
  await settle();
  t.equal(sent.length, 2, 'a stopped upload reads nothing');
  t.equal(budget.usedBytes, full);
});

t.test('blocks that cannot be read are rejected and their buffer comes back', async (t) => {
  const { upload, budget, sent, rejected } = slowWire();
  upload.add(ROTTEN, 0, BLOCK);
  upload.add(ROTTEN, BLOCK, BLOCK);
  upload.add(ROTTEN + 1, 0, 100);
  await settle();
  t.strictSame(rejected, [ROTTEN, ROTTEN]);
  t.equal(sent[0]!.bytes.length, 100);
  sent[0]!.taken();
  t.equal(budget.usedBytes, 0);
});

t.test('a cancelled request is not served', async (t) => {
  const { upload, sent } = slowWire();
  for (let index = 0; index < 3; index++) upload.add(index, 0, BLOCK);
  upload.cancel(1, 0);
  await settle();
  t.strictSame(
    sent.map(({ index }) => index),
    [0, 2],
  );
});
