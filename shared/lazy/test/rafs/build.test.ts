import t from 'tap';
import { type Packer, packBatch } from '../../src/pack/batch.ts';
import { buildRafs } from '../../src/rafs/build.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { tarBytes } from '../support/layer-tree.ts';
import { writeTar } from '../support/tar-writer.ts';

t.test('the entries of the tar are let go of before a chunk is packed', async (t) => {
  const tar = writeTar(['a', 'b', 'c'].map((name) => ({ name, payload: Buffer.from(`content of ${name}`) })));
  const entries = tarEntries(tar);
  const held: number[] = [];
  const packer: Packer = {
    width: 1,
    pack: async (job) => {
      held.push(entries.length);
      return packBatch(job);
    },
  };
  const how = {
    level: 3,
    chunkBytes: 4096,
    prioritized: ['c'],
    maxBytes: 2 ** 40,
    compressor: 'zstd',
  } as const;
  const built = await buildRafs({ source: tarBytes(tar), packer, take: () => undefined }, entries, how);
  t.match(built, { missing: [], uncompressedBytes: 36 });
  t.same(held, [0]);
});
