import { gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { mostBootstrapBytes } from '../../src/rafs/read-bootstrap.ts';
import { readBootstrapLayer } from '../../src/rafs/read-bootstrap-layer.ts';
import { writeTar } from '../support/tar-writer.ts';

const MIB = 1024 * 1024;
const LIMITS = { keptBytes: 1 * MIB, rawBytes: 64 * MIB };
const BOOT = Buffer.alloc(3 * 1000, 'bootstrap');

function layerOf(tar: Buffer, packed: Buffer = gzipSync(tar)) {
  let longest = 0;
  return {
    sizeBytes: packed.length,
    longestRead: () => longest,
    read: async (offset: number, length: number) => {
      longest = Math.max(longest, length);
      return packed.subarray(offset, offset + length);
    },
  };
}

const wanted = (name: string): boolean => name.startsWith('image/');

t.test('only wanted files are kept, the first of a name; the rest goes by', async (t) => {
  const tar = writeTar([
    { name: 'image/', typeFlag: '5' },
    { name: 'other', payload: Buffer.alloc(48 * MIB) },
    { name: 'image/link', typeFlag: '2', linkName: 'image.boot' },
    { name: 'image/image.boot', payload: BOOT },
    { name: 'image/image.boot', payload: Buffer.from('a second') },
    { name: 'image/empty', payload: Buffer.alloc(0) },
  ]);
  const { diffId, files } = await readBootstrapLayer(layerOf(tar), wanted, LIMITS);
  t.equal(diffId, digestOf(tar));
  t.same([...files.keys()], ['image/image.boot', 'image/empty']);
  t.ok(files.get('image/image.boot')!.equals(BOOT));
});

t.test('a layer of several members, each of another size, is read part by part', async (t) => {
  const noise = Buffer.from(Array.from({ length: 9 * MIB }, (_, at) => ((at * 2_654_435_761) >>> 11) & 255));
  const tar = writeTar([
    { name: 'other', payload: noise },
    { name: 'image/image.boot', payload: BOOT },
  ]);
  const cut = tar.length - 4_321;
  const packed = Buffer.concat([gzipSync(tar.subarray(0, cut), { level: 0 }), gzipSync(tar.subarray(cut))]);
  const layer = layerOf(tar, packed);
  const { diffId, files } = await readBootstrapLayer(layer, wanted, LIMITS);
  t.equal(diffId, digestOf(tar));
  t.ok(files.get('image/image.boot')!.equals(BOOT));
  t.ok(layer.longestRead() <= 1 * MIB, 'a part at a time');
});

t.test('a short layer is not unpacked to a long bootstrap', async (t) => {
  const MOST = 64 * MIB;
  t.equal(mostBootstrapBytes(1_000), MOST);
  t.equal(mostBootstrapBytes(MIB), 200 * MIB);
  t.equal(mostBootstrapBytes(500 * MIB), 1024 * MIB);
  // Its header is enough: nothing is made for it.
  const header = writeTar([{ name: 'image/image.boot', payload: Buffer.alloc(MOST + 1) }]).subarray(0, 512);
  await t.rejects(readBootstrapLayer(layerOf(header), wanted), {
    code: 'LAYER_INVALID',
    message: new RegExp(`more than ${MOST} bytes of tables`),
  });
});

t.test('limits and damage are named', async (t) => {
  const refused = async (tar: Buffer, message: RegExp, packed?: Buffer): Promise<void> =>
    void (await t.rejects(readBootstrapLayer(layerOf(tar, packed), wanted, LIMITS), {
      code: 'LAYER_INVALID',
      message,
    }));
  const half = { name: 'image/a', payload: Buffer.alloc(MIB / 2) };
  await refused(
    writeTar([half, { ...half, name: 'image/b' }, { ...half, name: 'image/c' }]),
    /more than 1048576 bytes of tables/,
  );
  await refused(writeTar([{ name: 'other', payload: Buffer.alloc(64 * MIB) }]), /longer than 67108864 bytes/);
  const tar = writeTar([{ name: 'image/image.boot', payload: BOOT }]);
  const packed = gzipSync(tar);
  await refused(tar, /cut short/, gzipSync(tar.subarray(0, 2_000)));
  await refused(tar, /is damaged|is cut short|its length/, packed.subarray(0, -9));
  await refused(tar, /member at \d+ has no header/, Buffer.concat([packed, Buffer.alloc(64, 1)]));
});
