import { readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { layerImage } from '@sepia/lazy/erofs/layer-image';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import { NO_FILES } from '@sepia/test-support/no-file';
import t from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { materialize } from '../../../shared/lazy/test/support/erofs-reader.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { SpareSpans } from '../../src/layers/core/spare-spans.ts';
import { LazyLayer } from '../../src/layers/lazy-layer.ts';
import { answerFrom } from '../../src/layers/made-image.ts';
import { unread } from '../support/unread.ts';

const TAR = writeTar([{ name: 'file', payload: noise(1, 90_000, 30) }]);
const BLOB = gzipSync(TAR, { memLevel: 1 });
const NOT_OURS = 'not ours';

function made(t: { testdir(): string }): { dir: string; whole: Buffer; open: () => Promise<LazyLayer> } {
  const dir = t.testdir();
  const indexer = new LayerIndexer({ spanBytes: 20_000 });
  indexer.push(BLOB);
  const { bytes } = indexer.end();
  writeFileSync(join(dir, 'index'), bytes);
  writeFileSync(join(dir, 'outside'), NOT_OURS);
  const none = (): void => undefined;
  const deps = {
    spare: new SpareSpans({ budgetBytes: 0, fullMs: 0 }),
    images: { ask: async ({ head }, question) => answerFrom(head, question) },
    source: { read: async (_layer, start, end) => BLOB.subarray(start, end) },
    onFetched: none,
    onComplete: none,
  } satisfies Parameters<typeof LazyLayer.open>[0];
  const options = {
    dir: () => join(dir, 'layer'),
    indexFile: join(dir, 'index'),
    home: { host: 'registry.example', repository: 't/x' },
    bootId: 'b'.repeat(36),
  };
  const whole = materialize(layerImage(readIndexHead(bytes)), TAR);
  return { dir, whole, open: async () => await LazyLayer.open(deps, options) };
}

for (const [thing, put] of Object.entries(NO_FILES))
  for (const file of ['image', 'map'])
    t.test(`${thing} lies where the ${file} of a layer was: it is made again`, async (t) => {
      const { dir, whole, open } = made(t);
      const first = await open();
      t.ok((await first.read(0, whole.length)).equals(whole));
      await first.close();
      const path = join(dir, 'layer', file);
      rmSync(path);
      put(path, join(dir, 'outside'));
      const again = await open();
      t.ok((await again.read(0, whole.length)).equals(whole));
      await again.close();
      t.equal(readFileSync(join(dir, 'outside'), 'utf8'), NOT_OURS);
      const third = await open();
      t.ok(third.presence.isComplete, 'and is believed from then on');
      await third.close();
    });

t.test('an image that was moved away and linked to is not written', async (t) => {
  const { dir, whole, open } = made(t);
  const first = await open();
  await first.read(0, 5_000);
  await first.close();
  const path = join(dir, 'layer', 'image');
  const moved = join(dir, 'moved');
  renameSync(path, moved);
  symlinkSync(moved, path);
  const before = readFileSync(moved);
  const again = await open();
  t.ok((await again.read(0, whole.length)).equals(whole));
  await again.close();
  t.ok(readFileSync(moved).equals(before));
});

for (const [thing, put] of Object.entries(NO_FILES))
  t.test(`${thing} lies where the index was: the layer is not opened, and nothing hangs`, async (t) => {
    const { dir, open } = made(t);
    rmSync(join(dir, 'index'));
    put(join(dir, 'index'), join(dir, 'outside'));
    await t.rejects(open(), { code: 'ENOENT' });
  });

t.test('an index that the disk does not read any more is read where a pull got it again', async (t) => {
  const { dir, whole, open } = made(t);
  const path = join(dir, 'index');
  const layer = await open();
  const bytes = readFileSync(path);
  await unread(t, path);
  await t.rejects(layer.read(0, whole.length), { code: 'EIO' });
  const put = (index: Uint8Array): void => {
    writeFileSync(`${path}.new`, index);
    renameSync(`${path}.new`, path);
  };
  const other = new LayerIndexer({ spanBytes: 40_000 });
  other.push(BLOB);
  put(other.end().bytes);
  await t.rejects(layer.read(0, whole.length), { code: 'EIO' }, 'its spans are those of another index');
  put(bytes);
  t.ok((await layer.read(0, whole.length)).equals(whole));
  await layer.close();
});
