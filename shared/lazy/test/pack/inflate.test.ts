import { deflateRawSync, gzipSync } from 'node:zlib';
import t from 'tap';
import { inflateMembers, type TakeRaw } from '../../src/pack/inflate.ts';

const MIB = 1024 * 1024;

async function inflate(blob: Uint8Array, take: TakeRaw): Promise<void> {
  const read = async (offset: number, length: number): Promise<Uint8Array> =>
    blob.subarray(offset, offset + length);
  await inflateMembers(read, 0, blob.length, take);
}

t.test('a member is handed on before the next is inflated', async (t) => {
  const MEMBERS = 32;
  const member = gzipSync(Buffer.alloc(4 * MIB));
  const blob = Buffer.concat(Array.from({ length: MEMBERS }, () => member));
  const before = process.memoryUsage().arrayBuffers;
  let heldAtFirst: number | undefined;
  let length = 0;
  await inflate(blob, (raw) => {
    heldAtFirst ??= process.memoryUsage().arrayBuffers - before;
    length += raw.length;
  });
  t.equal(length, MEMBERS * 4 * MIB);
  t.ok(heldAtFirst! < 32 * MIB, `${heldAtFirst} bytes of ${length} were held when the first was handed on`);
});

t.test('what stands before a damaged member is handed on; the error names where it stands', async (t) => {
  const first = gzipSync('first');
  const second = gzipSync('second');
  second[second.length - 6]! ^= 1;
  const taken: string[] = [];
  await t.rejects(
    inflate(Buffer.concat([first, second, gzipSync('third')]), (raw) => {
      taken.push(Buffer.from(raw).toString());
    }),
    { code: 'LAYER_INVALID', detail: { offset: first.length } },
  );
  t.same(taken, ['first']);
});

t.test('a member too long for one call, among short ones', async (t) => {
  const LONG = 40 * MIB;
  const parts = [Buffer.from('before'), Buffer.alloc(LONG, 'x'), Buffer.from('after')];
  const blob = Buffer.concat(parts.map((part) => gzipSync(part)));
  let begun = '';
  let end = '';
  let length = 0;
  await inflate(blob, (raw) => {
    if (begun.length < 8) begun += Buffer.from(raw.subarray(0, 8)).toString();
    end = (end + Buffer.from(raw.subarray(-8)).toString()).slice(-8);
    length += raw.length;
  });
  t.equal(length, 6 + LONG + 5);
  t.equal(begun.slice(0, 8), 'beforexx');
  t.equal(end, 'xxxafter');
});

t.test('nothing may be left between members or behind them', async (t) => {
  const member = gzipSync('one');
  const taken: number[] = [];
  const take: TakeRaw = (raw) => void taken.push(raw.length);
  await t.rejects(inflate(Buffer.concat([member, Buffer.alloc(32)]), take), {
    code: 'LAYER_INVALID',
    detail: { offset: member.length },
  });
  await t.rejects(inflate(Buffer.concat([member.subarray(0, 10), deflateRawSync('one')]), take), {
    code: 'LAYER_INVALID',
    message: /cut short|no header/,
  });
  t.same(taken, [3]);
});

t.test('what else waits has its turn, however much comes of few bytes', async (t) => {
  const turnsOf = async (blob: Uint8Array): Promise<number> => {
    let turns = 0;
    let next = setImmediate(function turn() {
      turns += 1;
      next = setImmediate(turn);
    });
    await inflate(blob, () => undefined);
    clearImmediate(next);
    return turns;
  };
  const long = gzipSync(Buffer.alloc(8 * MIB));
  t.ok((await turnsOf(Buffer.concat([long, long, long]))) >= 24, 'one for each MiB');
  const empty = gzipSync('');
  t.ok((await turnsOf(Buffer.concat(Array.from({ length: 640 }, () => empty)))) >= 10, 'members of no bytes');
});
