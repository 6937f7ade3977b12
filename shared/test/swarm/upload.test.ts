import t from 'tap';
import { Bitfield } from '../../src/bitfield.ts';
import { BlockBuffers } from '../../src/swarm/block-buffers.ts';
import { WIRE_LIMITS } from '../../src/swarm/limits.ts';
import { Upload } from '../../src/swarm/upload.ts';
import type { HardenedWire } from '../../src/swarm/wire.ts';

const BLOCK = WIRE_LIMITS.memberBlockBytes;

/** An upload over a wire whose socket takes bytes only when told to. */
function slowWire(budget: { usedBytes: number; readonly buffers: BlockBuffers }) {
  const sent: { bytes: Uint8Array; taken: () => void }[] = [];
  const reads: Uint8Array[] = [];
  const rejected: number[] = [];
  const wire = {
    sendBlock: (_index: number, _offset: number, bytes: Uint8Array, onTaken: () => void) =>
      void sent.push({ bytes, taken: onTaken }),
    sendReject: (index: number) => void rejected.push(index),
    forgetRequest: () => {},
  } as unknown as HardenedWire;
  const pieces = {
    have: Bitfield.full(64),
    readPiece: async (index: number, _offset: number, length: number, into: Uint8Array) => {
      reads.push(into);
      if (index === 50) throw new Error('rotten');
      return into.subarray(0, length).fill(index);
    },
    writePiece: async () => {},
  };
  return { upload: new Upload({ wire, pieces, budget, onSent: () => {} }), sent, reads, rejected };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('a wire that takes nothing holds no more than its share, and goes on when it does', async (t) => {
  const budget = { usedBytes: 0, buffers: new BlockBuffers(BLOCK) };
  const { upload, sent, reads } = slowWire(budget);
  for (let index = 0; index < 40; index++) upload.add(index, 0, BLOCK);
  await settle();
  const share = WIRE_LIMITS.wireUploadBytes / BLOCK;
  t.equal(sent.length, share);
  t.equal(budget.usedBytes, WIRE_LIMITS.wireUploadBytes);
  for (let at = 0; at < 40; at++) {
    t.ok(
      sent[at]!.bytes.every((byte) => byte === at),
      `block ${at} was not overwritten before it was taken`,
    );
    sent[at]!.taken();
    await settle();
  }
  t.equal(sent.length, 40);
  t.equal(budget.usedBytes, 0);
  t.equal(new Set(reads.map((bytes) => bytes.buffer)).size, share, 'buffers are used again');
});

t.test('when the engine has no room each wire still has one block on its way', async (t) => {
  const budget = { usedBytes: WIRE_LIMITS.engineUploadBytes, buffers: new BlockBuffers(BLOCK) };
  const { upload, sent } = slowWire(budget);
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
  t.equal(budget.usedBytes, WIRE_LIMITS.engineUploadBytes);
});

t.test('a block that cannot be read is rejected and its buffer comes back', async (t) => {
  const budget = { usedBytes: 0, buffers: new BlockBuffers(BLOCK) };
  const { upload, sent, rejected } = slowWire(budget);
  upload.add(50, 0, BLOCK);
  upload.add(51, 0, 100);
  await settle();
  t.strictSame(rejected, [50]);
  t.equal(sent[0]!.bytes.length, 100);
  sent[0]!.taken();
  t.equal(budget.usedBytes, 0);
});
