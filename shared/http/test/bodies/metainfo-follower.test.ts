import { digestOf } from '@sepia/base/digest';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';
import t from 'tap';
import { MetainfoFollower } from '../../src/bodies/metainfo-follower.ts';

const BYTES = Buffer.alloc(PIECE_BYTES, 'sepia');
const DIGEST = digestOf(BYTES);
const DEPS = { poll: () => Promise.resolve(undefined), isDefinite: () => false };

t.test('readers share metainfo that is final, and have a copy of what still grows', async (t) => {
  const final = Metainfo.final(DIGEST, BYTES.length, pieceHash(BYTES));
  const follower = new MetainfoFollower(DEPS, final);
  t.equal(follower.metainfo, final);
  follower.stop();
  const open = Metainfo.open(DIGEST, BYTES.length, firstAttempt(DIGEST));
  const other = new MetainfoFollower(DEPS, open);
  other.stop();
  t.not(other.metainfo, open);
  t.equal(other.metainfo.state, 'open');
});
