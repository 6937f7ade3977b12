import { closeSync, openSync, readdirSync, readlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { CodedError } from '@sepia/base/errors';
import { tryParse } from '@sepia/base/failure';
import { layerImage } from '@sepia/lazy/erofs/layer-image';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import { writeAll } from '@sepia/store/files/disk-files';
import { failingSyncs } from '@sepia/test-support/failing-syncs';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { materialize } from '../../../shared/lazy/test/support/erofs-reader.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { SpareSpans } from '../../src/layers/core/spare-spans.ts';
import { LazyLayer } from '../../src/layers/lazy-layer.ts';
import { answerFrom } from '../../src/layers/made-image.ts';

// Files of 100 bytes to 12 KiB: blocks that several spans share, and spans with several files.
const TAR = writeTar(
  Array.from({ length: 24 }, (_none, at) => ({
    name: `file-${at}`,
    payload: noise(at, at % 3 === 0 ? 100 + at : 9000 + 300 * at, 30),
  })),
);
const BLOB = gzipSync(TAR, { memLevel: 1 });
function indexOf(spanBytes: number): Buffer {
  const indexer = new LayerIndexer({ spanBytes });
  indexer.push(BLOB);
  return Buffer.from(indexer.end().bytes);
}
const INDEX = indexOf(20_000);
const WHOLE = materialize(layerImage(readIndexHead(INDEX)), TAR);

/** A disk with so many bytes left; a write that does not fit is taken in part, as a file system takes it. */
class SmallDisk {
  freeBytes = Number.POSITIVE_INFINITY;
  /** What it says of a write that it does not take. */
  code: 'DISK_FULL' | 'DISK_FAILED' = 'DISK_FULL';

  readonly write: typeof writeAll = async (handle, path, bytes, at) => {
    const taken = Math.min(bytes.length, this.freeBytes);
    await writeAll(handle, path, bytes.subarray(0, taken), at);
    this.freeBytes -= taken;
    if (taken < bytes.length) throw new CodedError(this.code, { detail: { path } });
  };
}

interface Made {
  readonly disk: SmallDisk;
  /** How often the agent was asked; how often the layer said that the disk takes nothing, and that it is whole. */
  readonly counts: { asked: number; full: number; complete: number };
  readonly spare: SpareSpans;
  readonly open: (bootId?: string) => Promise<LazyLayer>;
}

function made(dir: string, budgetBytes: number): Made {
  return madeWith(dir, new SpareSpans({ budgetBytes, fullMs: 60_000 }), INDEX);
}

function madeWith(dir: string, spare: SpareSpans, index: Buffer): Made {
  writeFileSync(join(dir, 'index'), index);
  const disk = new SmallDisk();
  const counts = { asked: 0, full: 0, complete: 0 };
  const open = async (bootId = 'b'.repeat(36)): Promise<LazyLayer> =>
    await LazyLayer.open(
      {
        spare,
        write: disk.write,
        images: { ask: async ({ head }, question) => answerFrom(head, question) },
        source: {
          read: async (_layer, start, end) => {
            counts.asked += 1;
            return BLOB.subarray(start, end);
          },
        },
        onFetched: () => undefined,
        onComplete: () => {
          counts.complete += 1;
        },
        onFull: () => {
          counts.full += 1;
        },
      },
      {
        dir: () => join(dir, 'layer'),
        indexFile: join(dir, 'index'),
        home: { host: 'registry.example', repository: 't/x' },
        bootId,
      },
    );
  return { disk, counts, spare, open };
}

const rightAt = async (layer: LazyLayer, at: number, length: number): Promise<boolean> =>
  (await layer.read(at, length)).equals(WHOLE.subarray(at, at + length));

t.test('what a full disk has no room for is read through memory, and kept once there is room', async (t) => {
  const { disk, counts, spare, open } = made(t.testdir(), 1 << 20);
  const layer = await open();
  disk.freeBytes = 10_000;
  t.ok(await rightAt(layer, 0, WHOLE.length), 'all of it');
  t.equal(counts.full, 1, 'that is told once');
  t.notOk(layer.presence.isComplete);
  const { asked } = counts;
  t.ok(await rightAt(layer, 0, WHOLE.length), 'again');
  t.equal(counts.asked, asked, 'without the agent');
  t.ok(spare.bytes > 0);
  await t.rejects(layer.fetch({ first: 0, last: layer.index.spans.length - 1 }), { code: 'DISK_FULL' });
  disk.freeBytes = Number.POSITIVE_INFINITY;
  await layer.fetch({ first: 0, last: layer.index.spans.length - 1 });
  t.ok(layer.presence.isComplete);
  t.equal(spare.bytes, 0, 'memory is not needed any more');
  t.ok(await rightAt(layer, 0, WHOLE.length));
  await layer.close();
  const next = await open();
  t.ok(next.presence.isComplete, 'and after a restart');
  t.ok(await rightAt(next, 0, WHOLE.length));
  await next.close();
});

t.test('so is what a disk that fails does not take', async (t) => {
  const { disk, counts, open } = made(t.testdir(), 1 << 20);
  const layer = await open();
  Object.assign(disk, { code: 'DISK_FAILED', freeBytes: 10_000 });
  t.ok(await rightAt(layer, 0, WHOLE.length), 'all of it');
  t.equal(counts.full, 1, 'that is told once');
  const all = { first: 0, last: layer.index.spans.length - 1 };
  await t.rejects(layer.fetch(all), { code: 'DISK_FULL', message: 'disk takes no writes' });
  disk.freeBytes = Number.POSITIVE_INFINITY;
  await layer.fetch(all);
  t.ok(layer.presence.isComplete);
  t.equal(counts.complete, 1);
  await layer.close();
});

t.test('a disk that fails at the last sync: what is there is read, by this boot alone', async (t) => {
  const { counts, open } = made(t.testdir(), 1 << 20);
  const layer = await open();
  const failing = await failingSyncs(t);
  t.ok(await rightAt(layer, 0, WHOLE.length), 'all of it');
  t.ok(layer.presence.isComplete);
  t.match(counts, { full: 1, complete: 0 }, 'told, and not that it is on disk');
  await layer.close();
  failing.end();
  const next = await open('c'.repeat(36));
  t.equal(next.presence.count, 0, 'another boot believes nothing of it');
  t.ok(await rightAt(next, 0, WHOLE.length));
  t.equal(counts.complete, 1);
  await next.close();
});

t.test('what lies on the disk beside what is in memory is not shown', async (t) => {
  const dir = t.testdir();
  const { disk, open } = made(dir, 1 << 20);
  const layer = await open();
  disk.freeBytes = 0;
  const { meta } = layerImage(readIndexHead(INDEX));
  const fd = openSync(join(dir, 'layer/image'), 'r+');
  writeSync(fd, Buffer.alloc(WHOLE.length - meta.length, 0xff), 0, WHOLE.length - meta.length, meta.length);
  closeSync(fd);
  t.ok(await rightAt(layer, 0, WHOLE.length));
  await layer.close();
});

t.test('what is in memory of a layer is not taken for spans of another index of it', async (t) => {
  const dir = t.testdir({ a: {}, b: {} });
  const spare = new SpareSpans({ budgetBytes: 1 << 20, fullMs: 60_000 });
  for (const [name, spanBytes] of [
    ['a', 20_000],
    ['b', 50_000],
  ] as const) {
    const { disk, open } = madeWith(join(dir, name), spare, indexOf(spanBytes));
    const layer = await open();
    disk.freeBytes = 0;
    t.ok(await rightAt(layer, 0, WHOLE.length), `spans of ${spanBytes} bytes`);
    await layer.close();
  }
});

t.test('another error of the disk is told as it is', async (t) => {
  const { disk, open } = made(t.testdir(), 1 << 20);
  const layer = await open();
  disk.freeBytes = 0;
  const failing = new CodedError('DISK_CORRUPT');
  Object.defineProperty(disk, 'freeBytes', {
    get: () => {
      throw failing;
    },
  });
  await t.rejects(layer.read(0, WHOLE.length), failing);
  await layer.close();
});

t.test('property: however the room comes and goes, each read is right', async (t) => {
  const step = fc.oneof(
    fc.record({ type: fc.constant('room' as const), bytes: fc.nat(60_000) }),
    fc.record({
      type: fc.constant('read' as const),
      at: fc.nat(WHOLE.length - 1),
      length: fc.integer({ min: 1, max: 30_000 }),
    }),
    fc.record({ type: fc.constant('restart' as const) }),
  );
  let run = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 25 }),
      fc.constantFrom(0, 30_000),
      async (steps, budgetBytes) => {
        const dir = t.testdir({ [`run-${++run}`]: {} });
        const { disk, open } = made(join(dir, `run-${run}`), budgetBytes);
        let layer = await open();
        for (const one of steps) {
          if (one.type === 'room') disk.freeBytes = one.bytes;
          else if (one.type === 'read') {
            const length = Math.min(one.length, WHOLE.length - one.at);
            if (!(await rightAt(layer, one.at, length))) throw new Error(`wrong bytes at ${one.at}`);
          } else {
            await layer.close();
            disk.freeBytes = Number.POSITIVE_INFINITY;
            layer = await open();
            disk.freeBytes = 5_000;
          }
        }
        await layer.close();
      },
    ),
    { numRuns: 60 },
  );
});

t.test('what cannot be opened for want of room, or of a disk that works, holds no file open', async (t) => {
  const dir = t.testdir();
  const { disk, open } = made(dir, 1 << 20);
  for (const code of ['DISK_FULL', 'DISK_FAILED'] as const) {
    disk.freeBytes = 0;
    disk.code = code;
    await t.rejects(open(), { code });
    t.same(openFilesIn(dir), []);
  }
  disk.freeBytes = Number.POSITIVE_INFINITY;
  const layer = await open();
  t.ok(await rightAt(layer, 0, WHOLE.length), 'later it can');
  await layer.close();
  t.same(openFilesIn(dir), []);
});

/** Files in a folder that this process has open. */
function openFilesIn(dir: string): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    const path = tryParse(() => readlinkSync(`/proc/self/fd/${fd}`));
    return path.ok && path.value.startsWith(dir) ? [path.value] : [];
  });
}
