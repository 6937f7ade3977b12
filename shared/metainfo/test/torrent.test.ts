import { digestOf } from '@sepia/base/digest';
import bencode from 'bencode';
import t from 'tap';
import {
  infoHashOf,
  torrentFile,
  torrentInfo,
  torrentName,
  V1_HASH_BYTES,
  v1PieceHash,
} from '../src/torrent.ts';
import { PIECE_BYTES } from '../src/tree.ts';

const DIGEST = digestOf(Buffer.from('abc'));
const NAME = 'sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
const ABC_SHA1 = 'a9993e364706816aba3e25717850c26c9cd0d89d';
const FACTS = { digest: DIGEST, sizeBytes: 3, pieces: v1PieceHash(Buffer.from('abc')) };
const NOWHERE = { announce: [], webSeeds: [] };
/** The info of {@link FACTS}, by hand from BEP 3: keys in the order of their bytes. */
const INFO = Buffer.concat([
  Buffer.from(`d6:lengthi3e4:name71:${NAME}12:piece lengthi1048576e6:pieces20:`),
  Buffer.from(ABC_SHA1, 'hex'),
  Buffer.from('7:privatei1ee'),
]);

t.test('a piece of a v1 torrent is known by its SHA-1', async (t) => {
  t.equal(Buffer.from(v1PieceHash(Buffer.from('abc'))).toString('hex'), ABC_SHA1);
  t.equal(v1PieceHash(new Uint8Array()).length, V1_HASH_BYTES);
});

t.test('a file is named by its digest, as every file system takes it', async (t) => {
  t.equal(torrentName(DIGEST), NAME);
  t.match(torrentName(digestOf(Buffer.from('abc'), 'sha512')), /^sha512-[0-9a-f]{128}$/);
});

t.test('the info of a blob is the same bytes everywhere, and so is its infohash', async (t) => {
  t.same(Buffer.from(torrentInfo(FACTS)), INFO);
  t.equal(infoHashOf(FACTS), Buffer.from(v1PieceHash(INFO)).toString('hex'));
  const { pieces, sizeBytes, digest } = FACTS;
  t.equal(infoHashOf({ pieces, sizeBytes, digest }), infoHashOf(FACTS), 'in whatever order they are given');
  t.not(infoHashOf({ ...FACTS, digest: digestOf(Buffer.from('abd')) }), infoHashOf(FACTS));
});

t.test('a torrent file has the info as it is hashed, and says who to ask', async (t) => {
  const read = (announce: string[], webSeeds: string[]): Record<string, unknown> => {
    const file = Buffer.from(torrentFile(FACTS, { announce, webSeeds }));
    t.ok(file.includes(Buffer.concat([Buffer.from('4:info'), INFO])), 'its infohash is that of its info');
    return texts(bencode.decode(file)) as Record<string, unknown>;
  };
  const bare = read([], []);
  t.same(Object.keys(bare).sort(), ['created by', 'info']);
  t.equal(bare['created by'], 'Sepia');
  const one = read(['http://t1/announce'], ['http://o1/x']);
  t.equal(one['announce'], 'http://t1/announce');
  t.notOk('announce-list' in one);
  t.same(one['url-list'], ['http://o1/x']);
  const two = read(['http://t1/announce', 'http://t2/announce'], ['http://o1/x', 'http://o2/x']);
  t.equal(two['announce'], 'http://t1/announce', 'the best one, for clients that read one only');
  t.same(two['announce-list'], [['http://t1/announce'], ['http://t2/announce']], 'a tier each');
  t.same(two['url-list'], ['http://o1/x', 'http://o2/x']);
});

t.test('of what is empty, or not known whole, there is no torrent', async (t) => {
  const hashes = (count: number): Uint8Array => new Uint8Array(count * V1_HASH_BYTES);
  for (const [sizeBytes, pieces] of [
    [0, hashes(0)],
    [0, hashes(1)],
    [1, hashes(0)],
    [PIECE_BYTES + 1, hashes(1)],
    [PIECE_BYTES, hashes(2)],
    [PIECE_BYTES, hashes(1).subarray(1)],
  ] as const) {
    const facts = { digest: DIGEST, sizeBytes, pieces };
    const code = sizeBytes === 0 ? 'REQUEST_INVALID' : 'METAINFO_INVALID';
    const refusal = { code, detail: { digest: DIGEST } };
    const name = `${sizeBytes} bytes, ${pieces.length} of hashes`;
    t.throws(() => torrentInfo(facts), refusal, name);
    t.throws(() => infoHashOf(facts), refusal, name);
    t.throws(() => torrentFile(facts, NOWHERE), refusal, name);
  }
  t.ok(torrentInfo({ digest: DIGEST, sizeBytes: PIECE_BYTES + 1, pieces: hashes(2) }).length > 0);
});

/** What was decoded, with text where bytes are. */
function texts(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  if (Array.isArray(value)) return value.map(texts);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, texts(one)]));
}
