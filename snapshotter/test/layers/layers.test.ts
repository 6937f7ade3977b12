import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { layerImage } from '@sepia/lazy/erofs/layer-image';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import t, { type Test } from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { materialize } from '../../../shared/lazy/test/support/erofs-reader.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import type { LayerName } from '../../src/layers/agent-source.ts';
import { Layers } from '../../src/layers/layers.ts';
import type { LazyLayer } from '../../src/layers/lazy-layer.ts';

const TAR = writeTar([{ name: 'bin', payload: noise(1, 90_000) }]);
const BLOB = gzipSync(TAR);

/** Layers whose blob is at hand, and index files of it with these lengths of spans. */
function made(t: Test, spanBytes: readonly number[]) {
  const dir = t.testdir();
  const files = spanBytes.map((bytes, at) => {
    const indexer = new LayerIndexer({ spanBytes: bytes });
    indexer.push(BLOB);
    const file = join(dir, `index-${at}`);
    writeFileSync(file, indexer.end().bytes);
    return file;
  });
  const completed: LazyLayer[] = [];
  const asked: LayerName[] = [];
  const read = async (layer: LayerName, start: number, end: number): Promise<Buffer> => {
    asked.push(layer);
    return BLOB.subarray(start, end);
  };
  const layers = new Layers(
    {
      log: silentLogger(),
      source: { read },
      onFetched: () => undefined,
    },
    { dir: join(dir, 'layers'), bootId: 'b'.repeat(36) },
  );
  layers.follow({ completed: (layer) => void completed.push(layer) });
  t.teardown(() => layers.close());
  const whole = materialize(layerImage(readIndexHead(readFileSync(files[0]!))), TAR);
  return { layers, files, asked, completed, whole };
}

t.test('a layer of two images is opened once: its file is what was read', async (t) => {
  for (const spans of [
    [20_000, 20_000],
    [20_000, 40_000],
  ]) {
    await t.test(`spans of ${spans.join(' and ')} bytes`, async (t) => {
      const { layers, files, completed, whole } = made(t, spans);
      const first = await layers.add(files[0]!, 'host/team/one');
      const second = await layers.add(files[1]!, 'host/team/two');
      t.equal(second, first);
      t.equal(layers.files().length, 1);
      t.same(
        layers.status().map(({ state }) => state),
        ['lazy', 'lazy'],
      );
      const [file] = layers.files();
      t.ok((await layers.read(file!.name, 0, whole.length)).equals(whole));
      t.equal(completed.length, 1);
      t.ok(readFileSync(first!.imagePath).equals(whole), 'the file that is mounted from now on');
    });
  }
});

t.test('opened by two at the same moment it is one layer', async (t) => {
  const { layers, files, whole } = made(t, [20_000, 40_000]);
  const [first, second] = await Promise.all(
    files.map(async (file, at) => await layers.add(file, `host/team/${at}`)),
  );
  t.ok(first);
  t.equal(second, first);
  const [file] = layers.files();
  t.ok((await layers.read(file!.name, 0, whole.length)).equals(whole));
});

t.test('layers of one image count together: the smallest image of a layer is told', async (t) => {
  const { layers, files } = made(t, [20_000, 20_000]);
  const other = gzipSync(writeTar([{ name: 'lib', payload: noise(2, 30_000) }]));
  const indexer = new LayerIndexer();
  indexer.push(other);
  writeFileSync(files[1]!, indexer.end().bytes);
  const copy = `${files[0]!}-copy`;
  writeFileSync(copy, readFileSync(files[0]!));
  const first = await layers.add(files[0]!, 'host/team/both');
  const second = await layers.add(files[1]!, 'host/team/both');
  t.equal(layers.leastImageBytes(first!), BLOB.length + other.length);
  await layers.add(copy, 'host/team/alone');
  t.equal(layers.leastImageBytes(first!), BLOB.length);
  t.equal(layers.leastImageBytes(second!), BLOB.length + other.length);
});

t.test('an index that cannot be read refuses its image, and no other', async (t) => {
  const { layers, files, whole } = made(t, [20_000, 20_000]);
  const damaged = readFileSync(files[1]!);
  damaged[300]! ^= 1;
  writeFileSync(files[1]!, damaged);
  await layers.add(files[1]!, 'host/team/bad');
  await layers.add(files[0]!, 'host/team/good');
  t.match(layers.status(), [
    { image: 'host/team/bad', state: 'refused', reason: /checksum/ },
    { image: 'host/team/good', state: 'lazy' },
  ]);
  const [file] = layers.files();
  t.ok((await layers.read(file!.name, 0, whole.length)).equals(whole));
});

t.test('a layer is read by every repository that it was pulled by, the last one first', async (t) => {
  const { layers, files, asked } = made(t, [20_000]);
  const layer = digestOf(BLOB);
  const diffId = digestOf(TAR);
  const index = digestOf(readFileSync(files[0]!));
  const pulled = async (image: string): Promise<LazyLayer> =>
    await layers.adopt({ layer, index, image, file: files[0]!, keptMs: 0 }, diffId);
  const opened = await pulled('hub/team/one');
  await pulled('mirror:5000/two');
  layers.readAlsoFrom({ digest: layer, diffId }, 'hub/team/former');
  layers.readAlsoFrom({ digest: index, diffId }, 'hub/team/otherwise-packed');
  await opened.read(opened.imageBytes - 1, 1);
  t.same(asked.at(-1), {
    ...{ host: 'mirror:5000', repository: 'two', digest: layer },
    others: [
      { host: 'hub', repository: 'team/one' },
      { host: 'hub', repository: 'team/former' },
    ],
  });
  t.equal(layers.status()[0]!.image, 'mirror:5000/two');
  await pulled('hub/team/one');
  t.same(opened.home, { host: 'hub', repository: 'team/one' });
});

t.test('the files of a layer that could not go are closed at the end', async (t) => {
  const { layers, files } = made(t, [20_000]);
  const layer = (await layers.add(files[0]!, 'host/team/one'))!;
  const busy = async (): Promise<void> => {
    throw new Error('the mount is busy');
  };
  await t.rejects(
    layers.remove(layer, busy, async () => undefined),
    /busy/,
  );
  t.not(layer.fd, -1, 'the mount may read it yet');
  await layers.close();
  t.equal(layer.fd, -1);
});

/** As a pull brings the layer of `files`, by the index in the file `at`. */
function pulls({ layers, files }: ReturnType<typeof made>) {
  const layer = digestOf(BLOB);
  return async (at: number): Promise<LazyLayer> => {
    const [file, index] = [files[at]!, digestOf(readFileSync(files[at]!))];
    return await layers.adopt({ layer, index, image: 'hub/team/one', file, keptMs: 0 }, digestOf(TAR));
  };
}

t.test(
  'a layer that came back keeps its files when the one before it is tried to be removed again',
  async (t) => {
    const node = made(t, [20_000]);
    const { layers, whole } = node;
    const pull = pulls(node);
    const nothing = async (): Promise<void> => undefined;
    const busy = async (): Promise<void> => {
      throw new Error('the mount is busy');
    };
    const first = await pull(0);
    await t.rejects(layers.remove(first, busy, nothing), /busy/);
    const again = await pull(0);
    t.not(again, first);
    const gone: string[] = [];
    t.notOk(
      await layers.remove(
        first,
        async () => void gone.push('hidden'),
        async () => void gone.push('forgotten'),
      ),
    );
    t.same(gone, []);
    t.equal(layers.byDiffId(digestOf(TAR)), again);
    await again.read(0, whole.length);
    t.ok(readFileSync(again.imagePath).equals(whole), 'it can be mounted by its file');
  },
);

t.test('a layer that is opened beside its removal is opened behind it', async (t) => {
  const node = made(t, [20_000]);
  const { layers, files, whole } = node;
  const gate = Promise.withResolvers<void>();
  const first = await pulls(node)(0);
  const removal = layers.remove(
    first,
    () => gate.promise,
    async () => undefined,
  );
  // One whose name is not known before its index is read.
  const opening = layers.add(files[0]!, 'host/team/one');
  const other = pulls(node)(0);
  gate.resolve();
  t.ok(await removal);
  const again = (await opening)!;
  t.equal(await other, again);
  await again.read(0, whole.length);
  t.ok(readFileSync(again.imagePath).equals(whole));
});

t.test('a layer that its index alone names is not opened before its removal has ended', async (t) => {
  const node = made(t, [20_000, 20_000]);
  const { layers, files, whole } = node;
  const gate = Promise.withResolvers<void>();
  const first = await pulls(node)(0);
  const removal = layers.remove(
    first,
    () => gate.promise,
    async () => undefined,
  );
  let isOpen = false;
  const opening = layers.add(files[0]!, 'host/team/one').then((layer) => {
    isOpen = true;
    return layer;
  });
  // Others go the same way meanwhile, to its end.
  for (const at of [2, 3, 4]) {
    const indexer = new LayerIndexer();
    indexer.push(gzipSync(writeTar([{ name: 'lib', payload: noise(at, 30_000) }])));
    writeFileSync(files[1]!, indexer.end().bytes);
    t.ok(await layers.add(files[1]!, `host/team/${at}`));
  }
  t.notOk(isOpen);
  gate.resolve();
  t.ok(await removal);
  const again = (await opening)!;
  t.not(again, first);
  await again.read(0, whole.length);
  t.ok(readFileSync(again.imagePath).equals(whole), 'its files are its own');
});

t.test('of a layer that is open the index is told that it was opened with', async (t) => {
  const node = made(t, [20_000, 40_000]);
  const { layers, files } = node;
  const layer = await pulls(node)(0);
  t.equal(layers.indexOf(layer), digestOf(readFileSync(files[0]!)));
  t.equal(await pulls(node)(1), layer, 'another index came on record meanwhile');
  t.equal(layers.indexOf(layer), digestOf(readFileSync(files[0]!)));
  const local = made(t, [20_000]);
  t.equal(local.layers.indexOf((await local.layers.add(local.files[0]!, 'host/team/one'))!), undefined);
});
