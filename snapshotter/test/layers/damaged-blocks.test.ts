import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { layerImage } from '@sepia/lazy/erofs/layer-image';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import { readPart, writeAll } from '@sepia/store/files/disk-files';
import { fc } from '@sepia/test-support/property';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { materialize } from '../../../shared/lazy/test/support/erofs-reader.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { SpareSpans } from '../../src/layers/core/spare-spans.ts';
import { LayerChecker } from '../../src/layers/layer-checker.ts';
import { LazyLayer } from '../../src/layers/lazy-layer.ts';
import { answerFrom } from '../../src/layers/made-image.ts';

const TAR = writeTar(
  Array.from({ length: 12 }, (_none, at) => ({
    name: `file-${at}`,
    payload: noise(at, 9000 + 700 * at, 30),
  })),
);
const BLOB = gzipSync(TAR, { memLevel: 1 });
const INDEX = (() => {
  const indexer = new LayerIndexer({ spanBytes: 20_000 });
  indexer.push(BLOB);
  return indexer.end().bytes;
})();
const WHOLE = materialize(layerImage(readIndexHead(INDEX)), TAR);
const BLOCK = 4096;

/** A disk with blocks of the image that it does not read until they are written anew; what is before one is read. */
class BadDisk {
  readonly blocks = new Set<number>();
  takesWrites = true;

  readonly readPart: typeof readPart = async (handle, path, into, at) => {
    const bad = [...this.blocks].filter(
      (block) => (block + 1) * BLOCK > at && block * BLOCK < at + into.length,
    );
    const first = Math.min(...bad) * BLOCK;
    if (first <= at) throw new CodedError('DISK_CORRUPT', { detail: { path, system: 'EIO' } });
    return await readPart(handle, path, into.subarray(0, first - at), at);
  };

  readonly write: typeof writeAll = async (handle, path, bytes, at) => {
    if (!this.takesWrites) throw new CodedError('DISK_FAILED', { detail: { path, system: 'EIO' } });
    await writeAll(handle, path, bytes, at);
    for (const block of this.blocks)
      if (block * BLOCK >= at && (block + 1) * BLOCK <= at + bytes.length) this.blocks.delete(block);
  };
}

interface Made {
  readonly disk: BadDisk;
  readonly image: string;
  readonly map: string;
  /** What was asked of the agent, and whether it answers. */
  readonly agent: { asked: number; isAway: boolean };
  /** Blocks that were found damaged. */
  readonly damaged: () => number;
  readonly open: (bootId?: string) => Promise<LazyLayer>;
}

function made(dir: string): Made {
  writeFileSync(join(dir, 'index'), INDEX);
  const agent = { asked: 0, isAway: false };
  const disk = new BadDisk();
  let damaged = 0;
  const open = async (bootId = 'b'.repeat(36)): Promise<LazyLayer> =>
    await LazyLayer.open(
      {
        spare: new SpareSpans({ budgetBytes: 0, fullMs: 0 }),
        readPart: disk.readPart,
        write: disk.write,
        images: { ask: async ({ head }, question) => answerFrom(head, question) },
        source: {
          read: async (_layer, start, end) => {
            agent.asked += 1;
            if (agent.isAway) throw new CodedError('TIMEOUT');
            return BLOB.subarray(start, end);
          },
        },
        onFetched: () => undefined,
        onComplete: () => undefined,
        onDamage: (_layer, blocks) => {
          damaged += blocks;
        },
      },
      {
        dir: () => join(dir, 'layer'),
        indexFile: join(dir, 'index'),
        home: { host: 'registry.example', repository: 't/x' },
        bootId,
      },
    );
  return {
    disk,
    image: join(dir, 'layer/image'),
    map: join(dir, 'layer/map'),
    agent,
    damaged: () => damaged,
    open,
  };
}

function flip(path: string, at: number): void {
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  writeSync(fd, Buffer.from([byte[0]! ^ 16]), 0, 1, at);
  closeSync(fd);
}

const rightAt = async (layer: LazyLayer, at: number, length: number): Promise<boolean> =>
  (await layer.read(at, length)).equals(WHOLE.subarray(at, at + length));

/** Somewhere in the content of files. */
const MIDDLE = Math.floor(WHOLE.length / 2 / BLOCK) * BLOCK;

for (const isRestarted of [false, true]) {
  t.test(`a damaged byte of a whole layer is fetched again, restarted: ${isRestarted}`, async (t) => {
    const { image, agent, damaged, open } = made(t.testdir());
    const first = await open();
    t.ok(await rightAt(first, 0, WHOLE.length));
    t.ok(first.presence.isComplete);
    if (isRestarted) await first.close();
    const asked = agent.asked;
    flip(image, MIDDLE + 77);
    const layer = isRestarted ? await open('c'.repeat(36)) : first;
    t.ok(await rightAt(layer, MIDDLE, BLOCK), 'what is read is right');
    t.equal(agent.asked, asked + 1);
    t.equal(damaged(), 1);
    t.ok(layer.presence.isComplete);
    t.ok(readFileSync(image).equals(WHOLE), 'and on disk');
    t.ok(await rightAt(layer, 0, WHOLE.length));
    t.equal(agent.asked, asked + 1, 'nothing else was');
    await layer.close();
    const next = await open('d'.repeat(36));
    t.ok(next.presence.isComplete, 'any boot believes what was mended');
    await next.close();
  });
}

t.test('where nobody has the right bytes the read fails, and heals later', async (t) => {
  const { image, agent, damaged, open } = made(t.testdir());
  const layer = await open();
  t.ok(await rightAt(layer, 0, WHOLE.length));
  flip(image, MIDDLE);
  agent.isAway = true;
  await t.rejects(layer.read(MIDDLE, BLOCK), { code: 'TIMEOUT' });
  await t.rejects(layer.read(MIDDLE, BLOCK), { code: 'TIMEOUT' });
  t.equal(damaged(), 1, 'it is found once');
  t.notOk(layer.presence.isComplete);
  agent.isAway = false;
  t.ok(await rightAt(layer, MIDDLE, BLOCK));
  t.ok(layer.presence.isComplete);
  await layer.close();
});

t.test('damage to the metadata, to the map and to the length is mended', async (t) => {
  const { image, map, damaged, open } = made(t.testdir());
  const layer = await open();
  t.ok(await rightAt(layer, 0, WHOLE.length));
  flip(image, 1100);
  t.ok(await rightAt(layer, 0, BLOCK));
  truncateSync(image, MIDDLE);
  t.ok(await rightAt(layer, 0, WHOLE.length));
  t.ok(readFileSync(image).equals(WHOLE));
  t.equal(damaged(), 1 + (WHOLE.length - MIDDLE) / BLOCK);
  await layer.close();
  // The sum of the last block.
  flip(map, readFileSync(map).length - 4);
  const next = await open();
  t.ok(await rightAt(next, 0, WHOLE.length));
  t.equal(damaged(), 2 + (WHOLE.length - MIDDLE) / BLOCK);
  await next.close();
});

t.test('what the disk does not read is fetched again, and nothing else is', async (t) => {
  const { disk, agent, damaged, open } = made(t.testdir());
  const layer = await open();
  t.ok(await rightAt(layer, 0, WHOLE.length));
  const { asked } = agent;
  disk.blocks.add(MIDDLE / BLOCK);
  t.ok(await rightAt(layer, 0, WHOLE.length));
  t.equal(damaged(), 1);
  t.equal(agent.asked, asked + 1);
  t.equal(disk.blocks.size, 0, 'it was written anew');
  t.ok(layer.presence.isComplete);
  await layer.close();
});

t.test('a disk that reads nothing and takes nothing: all is read by memory, and is not sound', async (t) => {
  const { disk, damaged, open } = made(t.testdir());
  const layer = await open();
  t.ok(await rightAt(layer, 0, WHOLE.length));
  for (let block = 0; block < WHOLE.length / BLOCK; block++) disk.blocks.add(block);
  disk.takesWrites = false;
  t.ok(await rightAt(layer, 0, WHOLE.length), 'metadata and content');
  t.equal(damaged(), WHOLE.length / BLOCK);
  t.ok(await rightAt(layer, MIDDLE + 7, 10_000));
  disk.blocks.clear();
  disk.takesWrites = true;
  await layer.fetch({ first: 0, last: layer.index.spans.length - 1 });
  t.ok(layer.presence.isComplete, 'content is on disk again');
  t.ok(await rightAt(layer, 0, WHOLE.length));
  await layer.check(async () => true);
  t.notOk(layer.isSound, 'the metadata of the file is not what is read of it here');
  await layer.close();
  const next = await open();
  await next.check(async () => true);
  t.ok(next.isSound, 'the next daemon writes it anew');
  await next.close();
});

t.test('a map that the disk does not read says nothing: the layer is fetched again', async (t) => {
  const { map, agent, open } = made(t.testdir());
  const layer = await open();
  t.ok(await rightAt(layer, 0, WHOLE.length));
  await layer.close();
  const { asked } = agent;
  const mapBytes = readFileSync(map).length;
  const handle = await openFile(map);
  const files = Object.getPrototypeOf(handle) as {
    read: (into: Buffer, ...more: number[]) => Promise<object>;
  };
  await handle.close();
  const { read } = files;
  const end = (): void => void Object.assign(files, { read });
  t.teardown(end);
  files.read = async function (into, ...more) {
    if (into.length === mapBytes) throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
    return await read.call(this, into, ...more);
  };
  const next = await open();
  end();
  t.equal(next.presence.count, 0);
  t.ok(await rightAt(next, 0, WHOLE.length));
  t.ok(agent.asked > asked);
  await next.close();
});

t.test('what was written before there were sums is fetched again', async (t) => {
  const { map, agent, open } = made(t.testdir());
  const layer = await open();
  t.ok(await rightAt(layer, 0, WHOLE.length));
  await layer.close();
  const before = readFileSync(map);
  before.write('SEPIAMAP', 0, 'latin1');
  writeFileSync(map, before.subarray(0, 64 + Math.ceil(layer.index.spans.length / 8)));
  const { asked } = agent;
  const next = await open();
  t.equal(next.presence.count, 0);
  t.ok(await rightAt(next, 0, WHOLE.length));
  t.ok(agent.asked > asked);
  await next.close();
});

t.test('reads are right whatever is there and whatever is damaged, in any order', async (t) => {
  const dir = t.testdir();
  let rounds = 0;
  const steps = fc.array(
    fc.record({
      kind: fc.constantFrom('read', 'read', 'flip', 'bad', 'reopen'),
      at: fc.nat(WHOLE.length - 1),
    }),
    { minLength: 1, maxLength: 25 },
  );
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      rounds += 1;
      mkdirSync(join(dir, `${rounds}`));
      const { disk, image, open } = made(join(dir, `${rounds}`));
      let layer = await open();
      for (const { kind, at } of list) {
        if (kind === 'flip') flip(image, at);
        else if (kind === 'bad') disk.blocks.add(Math.floor(at / BLOCK));
        else if (kind === 'reopen') {
          await layer.close();
          layer = await open();
        } else if (!(await rightAt(layer, at, Math.min(10_000, WHOLE.length - at))))
          throw new Error(`wrong bytes at ${at}`);
      }
      await layer.close();
    }),
    { numRuns: 40 },
  );
  t.ok(rounds >= 40);
});

t.test('a whole layer is sound once it was read again; what is written to it then is found', async (t) => {
  const { image, damaged, open } = made(t.testdir());
  const layer = await open();
  t.ok(await rightAt(layer, 0, WHOLE.length));
  t.notOk(layer.isSound);
  let sound = 0;
  let nowMs = 0;
  const checker = new LayerChecker(
    {
      log: silentLogger(),
      layers: () => [layer],
      onSound: async () => {
        sound += 1;
      },
      nowMs: () => nowMs,
    },
    { rateBytesPerSec: 0, everyMs: 1e9, lookMs: 5 },
  );
  await until(() => sound === 1, 'it is sound');
  t.ok(layer.isSound);
  t.equal(damaged(), 0);
  flip(image, MIDDLE + 5);
  await until(() => damaged() === 1, 'nobody reads it, and it is found');
  await until(() => layer.presence.isComplete, 'it is mended');
  t.ok(readFileSync(image).equals(WHOLE));
  t.notOk(layer.isSound, 'not before it was read once more');
  await until(() => {
    nowMs += 1_000;
    return sound === 2;
  }, 'it is sound again');
  t.equal(damaged(), 1);
  await checker.stop();
  await layer.close();
});

t.test('layers that were found right are read again when their time comes', async (t) => {
  const { damaged, open } = made(t.testdir());
  const layer = await open();
  t.ok(await rightAt(layer, 0, WHOLE.length));
  let nowMs = 0;
  let sound = 0;
  const onSound = async (): Promise<void> => {
    sound += 1;
  };
  const checker = new LayerChecker(
    { log: silentLogger(), layers: () => [layer], onSound, nowMs: () => nowMs },
    { rateBytesPerSec: 1e9, everyMs: 1_000, lookMs: 5 },
  );
  await until(() => sound === 1, 'the first time');
  nowMs = 1_000;
  await until(() => sound === 2, 'the second');
  nowMs = 2_000;
  checker.wake();
  await until(() => sound === 3, 'the third');
  t.equal(damaged(), 0);
  await checker.stop();
  await layer.close();
});

t.test('what is damaged each time is read again after longer and longer pauses', async (t) => {
  let [nowMs, looks, checks] = [0, 0, 0];
  const layer = {
    index: readIndexHead(INDEX),
    presence: { isComplete: true } as LazyLayer['presence'],
    isSound: false,
    isTouched: async () => false,
    check: async () => {
      checks += 1;
    },
  };
  const layers = (): (typeof layer)[] => {
    looks += 1;
    return [layer];
  };
  const checker = new LayerChecker(
    { log: silentLogger(), layers, onSound: async () => undefined, nowMs: () => nowMs },
    { rateBytesPerSec: 0, everyMs: 1e9, lookMs: 1 },
  );
  const looked = async (): Promise<void> => {
    const before = looks;
    await until(() => looks > before + 3, 'it looked at what there is to check');
  };
  for (const [at, seconds] of [0, 1, 2, 4, 8, 16, 30, 30].entries()) {
    if (at > 0) nowMs += seconds * 1_000 - 1;
    await looked();
    t.equal(checks, Math.max(at, 1), `${at}: not before ${seconds} s`);
    if (at > 0) nowMs += 1;
    await looked();
    t.equal(checks, at + 1, `${at}: after ${seconds} s`);
  }
  await checker.stop();
});
