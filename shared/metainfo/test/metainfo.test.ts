import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { FINAL_ATTEMPT, firstAttempt, MAX_BLOB_BYTES, Metainfo, requireKept } from '../src/metainfo.ts';
import { HASH_BYTES, PIECE_BYTES } from '../src/tree.ts';

const DIGEST = digestOf(Buffer.from('blob'));
const SHA512 = digestOf(Buffer.from('blob'), 'sha512');
const ATTEMPT = 'a'.repeat(32);
const hashOf = (index: number, seed = 'h'): Buffer => seededBytes(HASH_BYTES, `${seed}/${index}`);

function openWith(pieces: number, known: Iterable<number>, attempt = ATTEMPT, seed = 'h'): Metainfo {
  const metainfo = Metainfo.open(DIGEST, pieces * PIECE_BYTES - 7, attempt);
  for (const index of known) metainfo.addHash(index, hashOf(index, seed));
  return metainfo;
}

function finalOf(pieces: number, seed = 'h'): Metainfo {
  return Metainfo.final(
    DIGEST,
    pieces * PIECE_BYTES - 7,
    Buffer.concat(Array.from({ length: pieces }, (_, index) => hashOf(index, seed))),
  );
}

function same(a: Metainfo, b: Metainfo): boolean {
  return Buffer.compare(a.encode(), b.encode()) === 0 && a.etag === b.etag && a.knownPrefix === b.knownPrefix;
}

t.test('an open one gains hashes, by index, and becomes final', async (t) => {
  const metainfo = openWith(3, []);
  t.match(metainfo, { state: 'open', attempt: ATTEMPT, pieceCount: 3, knownPrefix: 0, knownCount: 0 });
  const tags = new Set([metainfo.etag]);
  for (const index of [1, 0, 2]) {
    t.notOk(metainfo.knows(index));
    t.notOk(metainfo.matches(index, hashOf(index)));
    metainfo.addHash(index, hashOf(index));
    metainfo.addHash(index, hashOf(index));
    t.ok(metainfo.matches(index, hashOf(index)));
    t.notOk(metainfo.matches(index, hashOf(index + 1)));
    tags.add(metainfo.etag);
  }
  t.equal(metainfo.knownPrefix, 3);
  metainfo.finalize();
  metainfo.finalize();
  tags.add(metainfo.etag);
  t.equal(tags.size, 5, 'each step has its own tag');
  t.equal(metainfo.state, 'final');
  t.ok(same(metainfo, finalOf(3)), 'a final one no longer says how it came about');
});

t.test('two final ones have the same tag only if all of their hashes are the same', async (t) => {
  t.equal(finalOf(3).etag, finalOf(3).etag);
  t.not(finalOf(3).etag, finalOf(3, 'other').etag);
  t.match(finalOf(3).etag, /^"0{32}\.3\.final\.[0-9a-f]{32}"$/);
});

t.test('what does not fit is refused', async (t) => {
  const open = openWith(2, [0]);
  const invalid = { code: 'METAINFO_INVALID' };
  t.throws(() => open.addHash(0, hashOf(5)), { ...invalid, detail: { part: 'piece 0 has another hash' } });
  t.throws(() => open.addHash(2, hashOf(2)), invalid);
  t.throws(() => open.addHash(-1, hashOf(2)), invalid);
  t.throws(() => open.addHash(1, hashOf(1).subarray(1)), invalid);
  t.throws(() => open.finalize(), TypeError);
  t.throws(() => open.layer(), TypeError);
  for (const size of [-1, 1.5, MAX_BLOB_BYTES + 1, Number.NaN])
    t.throws(() => Metainfo.open(DIGEST, size, ATTEMPT), invalid, String(size));
  for (const attempt of ['', '0'.repeat(32), 'A'.repeat(32), 'a'.repeat(31)])
    t.throws(() => Metainfo.open(DIGEST, 1, attempt), invalid, attempt);
  t.throws(() => Metainfo.final(DIGEST, PIECE_BYTES + 1, hashOf(0)), invalid);
});

t.test('the layer handed in and out is a copy', async (t) => {
  const layer = Buffer.from(hashOf(0));
  const metainfo = Metainfo.final(DIGEST, 1, layer);
  layer.fill(0);
  metainfo.layer().fill(0);
  t.ok(metainfo.matches(0, hashOf(0)));
});

t.test('the binary form has the layout that it promises', async (t) => {
  const bytes = Buffer.from(openWith(9, [1, 8]).encode());
  t.equal(bytes.toString('latin1', 0, 4), 'SPM1');
  t.same([bytes[4], bytes[5]], [0, 71]);
  t.equal(bytes.toString('latin1', 6, 77), DIGEST);
  t.equal(bytes.readBigUInt64BE(77), BigInt(9 * PIECE_BYTES - 7));
  t.equal(bytes.toString('hex', 85, 101), ATTEMPT);
  t.same([...bytes.subarray(101, 103)], [0b0100_0000, 0b1000_0000]);
  t.ok(bytes.subarray(103).equals(Buffer.concat([hashOf(1), hashOf(8)])));
});

t.test('what is encoded is decoded the same', async (t) => {
  const known = fc.uniqueArray(fc.nat(19), { maxLength: 20 });
  fc.assert(
    fc.property(known, (indexes) =>
      same(openWith(20, indexes), Metainfo.decode(openWith(20, indexes).encode())),
    ),
  );
  for (const one of [
    finalOf(5),
    Metainfo.final(DIGEST, 0, new Uint8Array()),
    Metainfo.open(DIGEST, 0, ATTEMPT),
    Metainfo.open(SHA512, 5, ATTEMPT),
  ]) {
    t.ok(same(one, Metainfo.decode(one.encode())), one.etag);
  }
  const odd = Buffer.concat([Buffer.alloc(3), finalOf(2).encode()]).subarray(3);
  t.ok(same(finalOf(2), Metainfo.decode(odd)), 'from a view at an odd offset');
});

t.test('a long-poll is told only what it lacks', async (t) => {
  const leader = openWith(10, [0, 1, 2, 5, 7]);
  const reader = openWith(10, [0, 1, 2]);
  const told = Metainfo.decode(leader.encode(reader.knownPrefix));
  t.equal(told.knownCount, 2);
  t.equal(reader.merge(told), 'merged');
  t.ok(same(reader, leader));
  for (const index of [3, 4, 6, 8, 9]) leader.addHash(index, hashOf(index));
  t.equal(reader.merge(Metainfo.decode(leader.encode(reader.knownPrefix))), 'merged');
  t.ok(same(reader, leader), 'also when all are known and it is still open');
  leader.finalize();
  t.equal(reader.merge(Metainfo.decode(leader.encode(10))), 'merged');
  t.equal(reader.state, 'final');
});

t.test('merging is the union, in any order and as often as one likes', async (t) => {
  const known = fc.uniqueArray(fc.nat(11));
  fc.assert(
    fc.property(known, known, (left, right) => {
      const union = openWith(12, new Set([...left, ...right]));
      const a = openWith(12, left);
      const b = openWith(12, right);
      const before = b.encode();
      const merged = a.merge(b) === 'merged' && a.merge(b) === 'merged';
      return (
        merged &&
        same(a, union) &&
        Buffer.compare(before, b.encode()) === 0 &&
        b.merge(openWith(12, left)) === 'merged' &&
        same(b, union)
      );
    }),
  );
  t.pass('held');
});

t.test('another attempt, or a final one that contradicts, replaces', async (t) => {
  const open = openWith(3, [0]);
  const before = open.encode();
  t.equal(open.merge(openWith(3, [1], 'b'.repeat(32))), 'replaced');
  t.equal(open.merge(openWith(3, [0], ATTEMPT, 'liar')), 'replaced');
  t.equal(open.merge(finalOf(3, 'other')), 'replaced');
  t.same(open.encode(), before, 'nothing was taken over');
  t.equal(open.merge(finalOf(3)), 'merged');
  t.equal(open.state, 'final');
  t.equal(open.merge(openWith(3, [], 'b'.repeat(32))), 'merged', 'a final one stays');
  t.equal(open.state, 'final');
  t.equal(open.merge(finalOf(3)), 'merged', 'and the same again');
  t.equal(open.merge(finalOf(3, 'other')), 'contested', 'two that differ cannot both be right');
  t.same(open.encode(), finalOf(3).encode(), 'nothing was taken over');
  t.throws(() => open.merge(finalOf(4)), { code: 'METAINFO_INVALID' });
  t.throws(() => open.merge(Metainfo.open(SHA512, open.sizeBytes, ATTEMPT)), { code: 'METAINFO_INVALID' });
});

t.test('malformed bytes are refused, part by part', async (t) => {
  const good = Buffer.from(openWith(9, [1, 8]).encode());
  const broken = (change: (bytes: Buffer) => Buffer | undefined): Buffer => {
    const bytes = Buffer.from(good);
    return change(bytes) ?? bytes;
  };
  const poke = (at: number, value: number) => broken((bytes) => void bytes.writeUInt8(value, at));
  const cases: [string, Buffer][] = [
    ['magic', poke(0, 0)],
    ['magic', Buffer.alloc(0)],
    ['head', poke(4, 2)],
    ['head', good.subarray(0, 90)],
    ['digest', poke(6, 0x58)],
    ['size', poke(77, 1)],
    ['bitfield', good.subarray(0, 102)],
    ['spare bits', poke(102, 0b1000_0001)],
    ['length', good.subarray(0, -1)],
    ['length', Buffer.concat([good, Buffer.alloc(1)])],
    ['length', poke(101, 0)],
    ['final without all hashes', poke(4, 1)],
    ['attempt', broken((bytes) => void bytes.fill(0, 85, 101))],
  ];
  for (const [part, bytes] of cases)
    t.throws(() => Metainfo.decode(bytes), { code: 'METAINFO_INVALID', detail: { part } }, part);
});

t.test('any bytes are a metainfo or METAINFO_INVALID', async (t) => {
  const good = fc.constantFrom(Buffer.from(finalOf(3).encode()), Buffer.from(openWith(9, [1, 8]).encode()));
  const mangled = fc
    .tuple(good, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), fc.nat(300))
    .map(([bytes, pokes, cut]) => {
      const copy = Buffer.from(bytes.subarray(0, Math.max(0, bytes.length - (cut > 150 ? 0 : cut))));
      if (copy.length > 0) for (const [at, value] of pokes) copy[at % copy.length] = value;
      return copy;
    });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array(), mangled), (bytes) => {
      try {
        const found = Metainfo.decode(bytes);
        return same(found, Metainfo.decode(found.encode()));
      } catch (error) {
        return error instanceof CodedError && error.code === 'METAINFO_INVALID';
      }
    }),
    { numRuns: 5000, interruptAfterTimeLimit: 10_000, markInterruptAsFailure: false },
  );
  t.pass('held');
});

t.test('the first attempt at a blob is the same in every version, and another for each blob', async (t) => {
  t.equal(firstAttempt(DIGEST), '28a4d51917d7650afe0aa04dfb4c0811');
  t.not(firstAttempt(SHA512), firstAttempt(DIGEST));
  t.not(firstAttempt(DIGEST), FINAL_ATTEMPT);
});

t.test('a registry that states more than any blob may have is told from one that has gone', async (t) => {
  const name = { digest: DIGEST, upstream: 'hub' };
  t.doesNotThrow(() => requireKept(MAX_BLOB_BYTES, name));
  const refusal = {
    code: 'BACKEND_DOWN',
    message: /hub states .* 1 TiB/,
    detail: { reason: 'blob-too-large' },
  };
  t.throws(() => requireKept(MAX_BLOB_BYTES + 1, name), refusal);
});
