import { setImmediate } from 'node:timers/promises';
import { CodedError } from '@sepia/base/errors';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { convertImage } from '../../src/convert/convert-image.ts';
import { LargeLayers } from '../../src/convert/large-layers.ts';
import { LAYER_DEFAULTS } from '../../src/convert/layer-job.ts';
import { LayerReader } from '../../src/convert/read-layer.ts';
import { type Packer, packBatch } from '../../src/pack/batch.ts';
import { EntryBudget } from '../../src/tar/entry-budget.ts';
import { MemoryImages, MemoryScratch, memoryConversion } from '../support/memory-images.ts';
import { writeTar } from '../support/tar-writer.ts';

t.test('one large layer at a time; who leaves gives the room back', async (t) => {
  const room = new LargeLayers();
  const first = room.claim();
  await first.take();
  await first.take();
  const order: string[] = [];
  const second = room.claim();
  const taken = second.take().then(() => void order.push('second'));
  const third = room.claim();
  const left = t.rejects(third.take(), { code: 'DRAINING' });
  third[Symbol.dispose]();
  await left;
  const stop = new AbortController();
  const stopped = t.rejects(room.claim(stop.signal).take(), { message: 'stopped' });
  stop.abort(new Error('stopped'));
  await stopped;
  await setImmediate();
  t.same(order, []);
  first[Symbol.dispose]();
  await taken;
  second[Symbol.dispose]();
  // Granted, and disposed before it heard of that.
  const fourth = room.claim();
  const fifth = room.claim();
  await fourth.take();
  const late = fifth.take();
  fourth[Symbol.dispose]();
  fifth[Symbol.dispose]();
  await late;
  await room.claim().take();
  t.pass('the room is free again');
});

t.test('a layer is large from so many entries on, or so long ones', async (t) => {
  const waits = async (count: number, xattrBytes: number): Promise<number> => {
    const xattrs = new Map([['user.a', Buffer.alloc(xattrBytes, 1)]]);
    const tar = writeTar(Array.from({ length: count }, (_, at) => ({ name: `file ${at}`, xattrs })));
    let asked = 0;
    const onLarge = async (): Promise<void> => {
      asked += 1;
    };
    const reader = new LayerReader({ append: async () => undefined }, 1 << 30, new EntryBudget(), onLarge);
    for (let at = 0; at < tar.length; at += 1 << 20) await reader.push(tar.subarray(at, at + (1 << 20)));
    await reader.end();
    return asked;
  };
  t.equal(await waits(1_000, 10), 0);
  t.ok((await waits(9, 1_000_000)) > 0);
});

t.test('while a large layer is pulled, another has the room', async (t) => {
  const tar = writeTar(
    Array.from({ length: 12 }, (_, at) => ({
      name: `file ${at}`,
      xattrs: new Map([['user.a', Buffer.alloc(1_000_000, at)]]),
    })),
  );
  const convert = async (images: MemoryImages, largeLayers: LargeLayers): Promise<string | undefined> => {
    const room = new MemoryScratch();
    const deps = { ...memoryConversion(images, room), largeLayers };
    const options = { ...LAYER_DEFAULTS, level: 1, tag: 'result', parallel: 2 };
    const { result } = await convertImage(deps, 'app', options).finally(() => t.equal(room.held, 0));
    return result.digest;
  };
  const start = (how: 'at once' | 'slowly' | 'cut') => {
    const images = new MemoryImages();
    const layer = images.addBlob(tar, 'application/vnd.oci.image.layer.v1.tar');
    const rootfs = { type: 'layers', diff_ids: [layer.digest] };
    const config = images.addBlob(
      Buffer.from(JSON.stringify({ rootfs })),
      'application/vnd.oci.image.config.v1+json',
    );
    images.addManifest({ schemaVersion: 2, config, layers: [layer] }, OCI_MANIFEST, 'app');
    const [asked, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    images.blob = async ({ digest, sizeBytes }, take) => {
      const bytes = images.blobs.get(digest)!;
      for (let at = 0; at < sizeBytes; at += 256 * 1024) {
        const end = at + 256 * 1024;
        if (how !== 'at once' && digest === layer.digest && end >= sizeBytes) {
          asked.resolve();
          await goOn.promise;
          if (how === 'cut') throw new CodedError('NO_PEERS');
        }
        await take(Buffer.from(bytes.subarray(at, end)));
      }
    };
    return { images, asked, goOn };
  };
  const digest = await convert(start('at once').images, new LargeLayers());
  for (const how of ['slowly', 'cut'] as const) {
    const { images, asked, goOn } = start(how);
    const room = new LargeLayers();
    const converted = convert(images, room);
    await asked.promise;
    const other = room.claim();
    const taken = other.take().then(() => 'taken');
    t.equal(await Promise.race([taken, setImmediate('waits')]), 'taken');
    goOn.resolve();
    if (how === 'cut') await t.rejects(converted, { code: 'NO_PEERS' });
    for (let turn = 0; turn < 100; turn += 1) await setImmediate();
    t.notOk(images.manifests.has('result'), 'it waits for the room now');
    other[Symbol.dispose]();
    if (how === 'slowly') t.equal(await converted, digest, 'the same result');
  }
});

t.test(
  'of layers with very long entries one is converted after the other, of any images of a process',
  async (t) => {
    const images = new MemoryImages();
    const large = (letter: string): Buffer =>
      writeTar(
        Array.from({ length: 9 }, (_, at) => ({
          name: `file ${at}`,
          xattrs: new Map([['user.a', Buffer.alloc(1_000_000, letter)]]),
        })),
      );
    images.addImage([large('a'), large('b')], { tag: 'one' });
    images.addImage([large('c')], { tag: 'two' });
    const inWork: string[] = [];
    let mixed = 0;
    const packer: Packer = {
      width: 1,
      pack: async (job) => {
        const letter = ['a', 'b', 'c'].find((one) => Buffer.from(job.raw.buffer).includes(one.repeat(1_000)));
        if (letter === undefined) return packBatch(job);
        inWork.push(letter);
        if (inWork.some((one) => one !== letter)) mixed += 1;
        await setImmediate();
        inWork.splice(inWork.indexOf(letter), 1);
        return packBatch(job);
      },
    };
    const room = new MemoryScratch();
    const shared = { ...memoryConversion(images, room), packer, largeLayers: new LargeLayers() };
    const convert = async (tag: string): Promise<number> => {
      const options = { ...LAYER_DEFAULTS, level: 1, tag: `${tag}-result`, parallel: 2 };
      return (await convertImage(shared, tag, options)).layers.length;
    };
    t.same(await Promise.all([convert('one'), convert('two')]), [2, 1]);
    t.equal(mixed, 0);
    t.equal(room.held, 0);
  },
);
