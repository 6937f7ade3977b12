import { constants, createZstdCompress, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { LayerReader } from '../../src/convert/read-layer.ts';
import { byteStringOf } from '../../src/tar/byte-string.ts';
import { EntryBudget } from '../../src/tar/entry-budget.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { writeTar } from '../support/tar-writer.ts';

t.test('a layer of too many entries is not read on', async (t) => {
  const tar = writeTar([{ name: 'a' }, { name: 'b' }, { name: 'c' }]);
  const read = async (maxEntries?: number): Promise<number> => {
    const reader = new LayerReader({ append: async () => undefined }, 1 << 20, new EntryBudget(maxEntries));
    await reader.push(tar);
    return (await reader.end()).entries.length;
  };
  t.equal(await read(), 3);
  t.equal(await read(3), 3);
  await t.rejects(read(2), { code: 'LAYER_NOT_LAZY', message: 'the layer has more than 2 entries' });
});

t.test('nor is one whose names and attributes are longer than usual, all together', async (t) => {
  const xattrs = new Map([['user.a', Buffer.alloc(300)]]);
  const tar = writeTar([{ name: 'a', xattrs }, { name: 'b'.repeat(250) }, { name: 'c'.repeat(400) }]);
  const read = async (maxLongBytes?: number): Promise<number> => {
    const budget = new EntryBudget(9, maxLongBytes);
    const reader = new LayerReader({ append: async () => undefined }, 1 << 20, budget);
    await reader.push(tar);
    return (await reader.end()).entries.length;
  };
  const longBytes = 1 + 'user.a'.length + 300 - 256 + (400 - 256);
  t.equal(await read(), 3);
  t.equal(await read(longBytes), 3);
  await t.rejects(read(longBytes - 1), { code: 'LAYER_NOT_LAZY', message: /bytes longer than usual/ });
});

t.test('an attribute does not keep the rest of its header in memory', async (t) => {
  const comment = new Map([['comment', 'x'.repeat(500_000)]]);
  const xattrs = new Map([['user.a', Buffer.from('small')]]);
  const [kept, whole] = tarEntries(
    writeTar([
      { name: 'a', pax: comment, xattrs },
      { name: 'b', xattrs: new Map([['user.a', Buffer.alloc(500_000, 1)]]) },
    ]),
  );
  t.equal(Buffer.from(kept!.xattrs.get(byteStringOf('user.a'))!).toString(), 'small');
  t.equal(kept!.xattrs.get(byteStringOf('user.a'))!.buffer.byteLength, 5);
  t.ok(whole!.xattrs.get(byteStringOf('user.a'))!.byteOffset > 0, 'what is most of it is not copied');
});

t.test(
  'a layer is zstd too where a frame to be skipped comes first, of any of the sixteen kinds',
  async (t) => {
    const tar = writeTar([{ name: 'a' }, { name: 'b' }]);
    const read = async (head: readonly number[]): Promise<number> => {
      const reader = new LayerReader({ append: async () => undefined }, 1 << 20);
      const skipped = Buffer.from([...head, 3, 0, 0, 0, 7, 7, 7]);
      await reader.push(Buffer.concat([skipped, zstdCompressSync(tar)]));
      return (await reader.end()).entries.length;
    };
    for (const kind of [0x50, 0x57, 0x5f]) t.equal(await read([kind, 0x2a, 0x4d, 0x18]), 2, `${kind}`);
    // Anything else is read as a tar, which it is not.
    for (const head of [
      [0x40, 0x2a, 0x4d, 0x18],
      [0x60, 0x2a, 0x4d, 0x18],
      [0x50, 0x2b, 0x4d, 0x18],
      [0x50, 0x2a, 0x4c, 0x18],
      [0x50, 0x2a, 0x4d, 0x19],
    ])
      await t.rejects(read(head), { code: 'LAYER_INVALID' }, `${head}`);
  },
);

t.test('a layer that only a very long memory decompresses stays as it is', async (t) => {
  const packed = async (windowLog: number): Promise<Buffer> => {
    // Its length is not known to who begins to compress, which would shorten the window.
    const stream = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: windowLog } });
    stream.write(writeTar([{ name: 'a' }]).subarray(0, 512));
    stream.end(writeTar([{ name: 'a' }]).subarray(512));
    return Buffer.concat((await stream.toArray()) as Buffer[]);
  };
  const read = async (blob: Buffer): Promise<number> => {
    const reader = new LayerReader({ append: async () => undefined }, 1 << 20);
    await reader.push(blob);
    return (await reader.end()).entries.length;
  };
  t.equal(await read(await packed(27)), 1);
  await t.rejects(read(await packed(28)), { code: 'LAYER_NOT_LAZY', message: /window of more than 128 MiB/ });
});
