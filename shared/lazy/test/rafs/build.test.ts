import t from 'tap';
import { type Packer, packBatch } from '../../src/pack/batch.ts';
import { buildRafs } from '../../src/rafs/build.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { builtRafs } from '../support/build-rafs.ts';
import { tarBytes } from '../support/layer-tree.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

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

t.test('a hard link whose header would change its file makes no data blob', async (t) => {
  const file: TarPart = { name: 'file', mode: 0o644, payload: Buffer.from('bytes') };
  const link: TarPart = { name: 'link', typeFlag: '1', linkName: 'file', mode: 0o644 };
  const madeOf = async (...parts: TarPart[]): Promise<string> => {
    const built = await builtRafs(writeTar(parts));
    return typeof built === 'string' ? built : 'made';
  };
  t.equal(await madeOf(file, link), 'made');
  t.equal(await madeOf(file, { ...link, mode: 0o755 }), 'hard-link-with-other-attributes: link');
  t.equal(await madeOf(file, { ...link, uid: 1 }, file), 'hard-link-with-other-attributes: link');
  const next = { ...link, name: 'next', linkName: 'link', gid: 1 };
  t.equal(await madeOf(file, link, next), 'hard-link-with-other-attributes: next');
  t.equal(await madeOf({ ...link, mode: 0o755 }), 'made', 'what it links to is in another layer');
});
