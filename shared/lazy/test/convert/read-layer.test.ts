import t from 'tap';
import { LayerReader } from '../../src/convert/read-layer.ts';
import { writeTar } from '../support/tar-writer.ts';

t.test('a layer of too many entries is not read on', async (t) => {
  const tar = writeTar([{ name: 'a' }, { name: 'b' }, { name: 'c' }]);
  const read = async (maxEntries?: number): Promise<number> => {
    const reader = new LayerReader({ append: async () => undefined }, 1 << 20, maxEntries);
    await reader.push(tar);
    return (await reader.end()).entries.length;
  };
  t.equal(await read(), 3);
  t.equal(await read(3), 3);
  await t.rejects(read(2), { code: 'LAYER_NOT_LAZY', message: 'the layer has more than 2 entries' });
});
