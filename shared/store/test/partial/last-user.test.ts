import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import t from 'tap';
import { BlobStore } from '../../src/blob-store.ts';
import { CACHED, writePieces } from '../contract.ts';
import { CrashFiles } from '../crash-files.ts';

const BYTES = bytesOf(2 * PIECE_BYTES, 5);
const DIGEST = digestOf(BYTES);

// Whenever between the question and its answer: the other has it open, with all that is there.
for (let turns = 0; turns < 12; turns++)
  t.test(`the last user of a partial lets go ${turns} turns after another asked for it`, async (t) => {
    const store = await BlobStore.open(
      { files: new CrashFiles('/d'), dir: '/d', log: silentLogger(), nowMs: () => 1e12 },
      { durable: true, bootId: 'b', mapDelayMs: 1e6 },
    );
    const first = await store.openPartial(DIGEST, BYTES.length);
    await writePieces(first, BYTES, [0]);
    const opening = store.openPartial(DIGEST, BYTES.length);
    for (let turn = 0; turn < turns; turn++) await undefined;
    const released = first.release();
    const second = await opening;
    t.equal(second.closing, undefined);
    t.ok(second.have.has(0));
    await released;
    await writePieces(second, BYTES, [1]);
    await second.commit(CACHED);
    await second.release();
    await store.close();
  });
