import type { BlobSource } from '@sepia/backend/blob-backend';
import { Bitfield } from '@sepia/base/bitfield';
import { digestOf } from '@sepia/base/digest';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { loneFetch, streamOf } from '../support/lone-fetch.ts';

const BLOB = bytesOf(5 * PIECE_BYTES + 1_000, 21);

function piece(index: number): Uint8Array {
  return BLOB.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES);
}

/** What a leader made known that is gone: the hashes of all but the last piece. */
function known(): Metainfo {
  const digest = digestOf(BLOB);
  const metainfo = Metainfo.open(digest, BLOB.length, firstAttempt(digest));
  for (let index = 0; index < 5; index++) metainfo.addHash(index, pieceHash(piece(index)));
  return metainfo;
}

t.test(
  'after a leader is gone its pieces are left to members as far as they have them, no further',
  async (t) => {
    const asked: string[] = [];
    const source: BlobSource = {
      headBlob: async () => ({ sizeBytes: BLOB.length }),
      getBlob: async ({ range }) => {
        const { start = 0, end = BLOB.length - 1 } = range ?? {};
        asked.push(`${start / PIECE_BYTES}-${Math.ceil((end + 1) / PIECE_BYTES)}`);
        const body = streamOf(BLOB.subarray(start, end + 1));
        return { status: range === undefined ? 'whole' : 'partial', start, sizeBytes: BLOB.length, body };
      },
    };
    let words = 0;
    const held = new Bitfield(6);
    for (const index of [0, 3]) held.add(index);
    // Nobody is reached at first; the first word is about the first who is.
    const peerPieces = (): Bitfield | undefined =>
      [undefined, new Bitfield(6)][words++] ?? (words > 2 ? held : undefined);
    const { fetch, errors } = await loneFetch(t, BLOB, source, { adopt: known(), peerPieces });
    fetch.start();
    await until(() => fetch.have?.count === 4, 'what nobody holds comes from the registry');
    t.same([...fetch.have!], [1, 2, 4, 5], 'what members have is not asked for');
    t.same(asked, ['5-6', '1-3', '4-5']);
    for (const index of [0, 3]) await fetch.pieceFromSwarm(index, piece(index));
    await fetch.whenFinal(new AbortController().signal);
    t.same(errors, []);
  },
);
