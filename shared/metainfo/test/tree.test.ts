import { createHash } from 'node:crypto';
import { fc } from '@sepia/test-support/property';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import {
  foldLeaves,
  HASH_BYTES,
  isLeaf,
  LEAF_BYTES,
  leafCount,
  PIECE_BYTES,
  PieceHasher,
  pieceCount,
  pieceHash,
  pieceLeaves,
  pieceLength,
} from '../src/tree.ts';

const sha256 = (...parts: Uint8Array[]): Buffer =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();

/** BEP 52, "piece layers", by recursion: a leaf is SHA-256 of 16 KiB, a leaf beyond the end is 32 zero bytes. */
function naiveRoot(bytes: Uint8Array, firstLeaf: number, leaves: number): Buffer {
  if (leaves > 1)
    return sha256(
      naiveRoot(bytes, firstLeaf, leaves / 2),
      naiveRoot(bytes, firstLeaf + leaves / 2, leaves / 2),
    );
  const at = firstLeaf * LEAF_BYTES;
  return at < bytes.length ? sha256(bytes.subarray(at, at + LEAF_BYTES)) : Buffer.alloc(HASH_BYTES);
}

function naiveLayer(bytes: Uint8Array): Buffer {
  const count = Math.ceil(bytes.length / PIECE_BYTES);
  return Buffer.concat(
    Array.from({ length: count }, (_, index) =>
      naiveRoot(bytes.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES), 0, 64),
    ),
  );
}

const EDGES = [
  0,
  1,
  LEAF_BYTES - 1,
  LEAF_BYTES,
  LEAF_BYTES + 1,
  PIECE_BYTES - 1,
  PIECE_BYTES,
  PIECE_BYTES + 1,
  PIECE_BYTES + LEAF_BYTES,
  3 * PIECE_BYTES,
  3 * PIECE_BYTES + 5,
];

t.test('the constants of the design', async (t) => {
  t.same([PIECE_BYTES, LEAF_BYTES, HASH_BYTES], [1 << 20, 1 << 14, 32]);
});

t.test('piece layers are those of BEP 52, at every edge', async (t) => {
  for (const sizeBytes of EDGES) {
    const bytes = seededBytes(sizeBytes, 'tree');
    const hasher = new PieceHasher();
    hasher.update(bytes);
    t.ok(Buffer.from(hasher.finish()).equals(naiveLayer(bytes)), `${sizeBytes} bytes`);
    t.equal(hasher.sizeBytes, sizeBytes);
  }
});

t.test('the root over the layers of a file is the pieces root of BEP 52', async (t) => {
  const bytes = seededBytes(4 * PIECE_BYTES, 'root');
  const layer = naiveLayer(bytes);
  const hashOf = (index: number): Buffer => layer.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES);
  t.ok(sha256(sha256(hashOf(0), hashOf(1)), sha256(hashOf(2), hashOf(3))).equals(naiveRoot(bytes, 0, 256)));
});

t.test('pieceHash is the same hash, and leaves the piece alone', async (t) => {
  for (const sizeBytes of EDGES.filter((one) => one > 0 && one <= PIECE_BYTES)) {
    const piece = seededBytes(sizeBytes, 'piece');
    const before = Buffer.from(piece);
    t.ok(naiveRoot(piece, 0, 64).equals(pieceHash(piece)), `${sizeBytes} bytes`);
    t.ok(before.equals(piece));
  }
  const twice = seededBytes(100, 'twice');
  const first = pieceHash(twice);
  pieceHash(seededBytes(200, 'other'));
  t.same(first, pieceHash(twice), 'each hash is its own bytes');
});

t.test('the split into chunks does not matter', async (t) => {
  const bytes = seededBytes(2 * PIECE_BYTES + 12_345, 'chunks');
  const expected = naiveLayer(bytes);
  const cuts = fc.array(
    fc.oneof(
      fc.nat(bytes.length),
      fc.nat(200).map((leaf) => leaf * LEAF_BYTES),
    ),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(cuts, (points) => {
      const sorted = [0, ...points.filter((at) => at <= bytes.length).sort((a, b) => a - b), bytes.length];
      const hasher = new PieceHasher();
      for (let index = 1; index < sorted.length; index++) {
        const chunk = Buffer.from(bytes.subarray(sorted[index - 1], sorted[index]));
        hasher.update(chunk);
        chunk.fill(0);
      }
      return expected.equals(hasher.finish());
    }),
    { numRuns: 25, interruptAfterTimeLimit: 15_000, markInterruptAsFailure: false },
  );
  t.pass('held');
});

t.test('one flipped bit changes the hash of its piece and no other', async (t) => {
  const bytes = seededBytes(2 * PIECE_BYTES + 10, 'flip');
  const before = naiveLayer(bytes);
  for (const at of [0, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 9]) {
    const copy = Buffer.from(bytes);
    copy[at]! ^= 1;
    const hasher = new PieceHasher();
    hasher.update(copy);
    const after = Buffer.from(hasher.finish());
    const changed = [0, 1, 2].filter(
      (index) =>
        !before
          .subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
          .equals(after.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)),
    );
    t.same(changed, [Math.floor(at / PIECE_BYTES)], `byte ${at}`);
  }
});

t.test('pieces cover a blob without gap', async (t) => {
  t.equal(pieceCount(0), 0);
  fc.assert(
    fc.property(fc.oneof(fc.nat(10 * PIECE_BYTES), fc.constantFrom(...EDGES)), (sizeBytes) => {
      const lengths = Array.from({ length: pieceCount(sizeBytes) }, (_, index) =>
        pieceLength(sizeBytes, index),
      );
      return (
        lengths.every(
          (length, index) => length > 0 && (index === lengths.length - 1 || length === PIECE_BYTES),
        ) && lengths.reduce((a, b) => a + b, 0) === sizeBytes
      );
    }),
  );
});

t.test('the leaves of a piece fold to its hash, and tell which bytes are right', async (t) => {
  for (const size of [
    1,
    LEAF_BYTES,
    LEAF_BYTES + 1,
    PIECE_BYTES - LEAF_BYTES,
    PIECE_BYTES - 1,
    PIECE_BYTES,
  ]) {
    const piece = seededBytes(size, `leaves of ${size}`);
    const leaves = Buffer.from(pieceLeaves(piece));
    t.equal(leaves.length, leafCount(size) * HASH_BYTES, `${size}`);
    t.same(
      Buffer.from(foldLeaves(leaves)),
      Buffer.from(pieceHash(piece)),
      `${size} bytes fold to their hash`,
    );
    const last = leafCount(size) - 1;
    const bytes = Buffer.from(piece.subarray(last * LEAF_BYTES));
    t.ok(isLeaf(leaves, last, bytes));
    t.notOk(isLeaf(leaves, last + 1, bytes), 'there is no such leaf');
    bytes[0] = bytes[0]! ^ 1;
    t.notOk(isLeaf(leaves, last, bytes));
  }
});

t.test('a hasher lends the leaves of each piece at its end', async (t) => {
  const bytes = seededBytes(PIECE_BYTES + LEAF_BYTES + 5, 'lent');
  const lent: Buffer[] = [];
  const hasher = new PieceHasher((leaves) => lent.push(Buffer.from(leaves)));
  hasher.update(bytes);
  hasher.finish();
  t.same(
    lent,
    [bytes.subarray(0, PIECE_BYTES), bytes.subarray(PIECE_BYTES)].map((piece) =>
      Buffer.from(pieceLeaves(piece)),
    ),
  );
});
