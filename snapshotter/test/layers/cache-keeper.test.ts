import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { CACHE_LOOK_MS, LEAVING_MS, PULL_MS } from '../../src/deadlines.ts';
import { ContentCache } from '../../src/doors/content-cache.ts';
import { CacheKeeper } from '../../src/layers/cache-keeper.ts';
import { IndexFolder, type KeptIndex } from '../../src/layers/index-folder.ts';
import { fileNameOf, Layers } from '../../src/layers/layers.ts';
import type { LazyLayer } from '../../src/layers/lazy-layer.ts';

const FILE_BYTES = 1024 * 1024;
/** Room for one layer, not for two. */
const BUDGET = { budgetBytes: 1.7 * FILE_BYTES, highWatermark: 0.95, lowWatermark: 0.85 };

/** A node with two layers of 1 MiB, all of it here, and a clock that the test sets. */
class Node {
  readonly door: ContentCache;
  readonly indexes: IndexFolder;
  readonly layers: Layers;
  readonly hidden: string[] = [];
  readonly held = new Set<Digest>();
  readonly dir: string;
  nowMs = Date.now();
  keeper: CacheKeeper | undefined;
  /** So often the mount does not hide a file. */
  hideFails = 0;
  /** A file that it never hides. */
  stuck: string | undefined;
  readonly #blobs = new Map<string, Buffer>();

  constructor(dir: string) {
    this.dir = dir;
    mkdirSync(join(dir, 'indexes'));
    this.door = new ContentCache(join(dir, 'content'));
    this.indexes = new IndexFolder(join(dir, 'indexes'));
    const read = async ({ digest }: { digest: string }, start: number, end: number): Promise<Buffer> =>
      this.#blobs.get(digest)!.subarray(start, end);
    this.layers = new Layers(
      {
        log: silentLogger(),
        source: { read },
        onFetched: () => undefined,
      },
      { dir: join(dir, 'layers'), bootId: 'b'.repeat(36) },
    );
  }

  async pull(seed: number): Promise<LazyLayer> {
    const blob = gzipSync(writeTar([{ name: 'file', payload: noise(seed, FILE_BYTES), mode: 0o644 }]));
    const indexer = new LayerIndexer();
    indexer.push(blob);
    const { bytes } = indexer.end();
    const layer = digestOf(blob);
    this.#blobs.set(layer, blob);
    const facts = { layer, index: digestOf(Buffer.from(bytes)), image: 'registry.example/t/x' };
    const kept: KeptIndex = await this.indexes.keep(facts, async () => Buffer.from(bytes));
    const opened = await this.layers.adopt(kept);
    await this.door.publish(opened.index.diffId, opened.imagePath);
    await opened.read(0, opened.imageBytes);
    return opened;
  }

  keep(t: Test): CacheKeeper {
    const keeper = new CacheKeeper(
      {
        layers: this.layers,
        held: async () => this.held,
        withdraw: (layer, mayGo) => this.door.withdraw(layer.index.diffId, mayGo),
        show: (layer) => this.door.publish(layer.index.diffId, layer.imagePath),
        hide: async (name) => {
          if (this.hideFails-- > 0 || name === this.stuck) throw new Error('the mount is busy');
          this.hidden.push(name);
        },
        leaving: (layer) => this.indexes.forgetting(layer.index.layer),
        log: silentLogger(),
        nowMs: () => this.nowMs,
      },
      BUDGET,
      20,
    );
    this.keeper = keeper;
    this.layers.follow({ used: (layer) => keeper.shown(layer) });
    t.teardown(async () => {
      await keeper.stop();
      await this.layers.close();
    });
    return keeper;
  }
}

t.test('the layer that no snapshot names makes room; used again, it comes back', async (t) => {
  const node = new Node(t.testdir());
  const keeper = node.keep(t);
  const first = await node.pull(1);
  const second = await node.pull(2);
  node.held.add(second.index.diffId);
  await until(() => keeper.fill.layersInUse === 1, 'the snapshot is seen');
  t.equal(keeper.fill.layers, 2);
  t.notOk(keeper.mayFill(second), 'nothing is fetched ahead where there is no room');
  t.ok(await node.door.has(first.index.diffId), 'its pull may go on yet');
  node.nowMs += PULL_MS;
  await until(async () => !(await node.door.has(first.index.diffId)), 'it cannot be found any more');
  t.ok(existsSync(first.imagePath), 'who found it just before can read it');
  node.nowMs += LEAVING_MS;
  await until(() => keeper.removed === 1, 'it is gone');
  t.equal(node.hidden.length, 1);
  t.notOk(existsSync(first.imagePath));
  t.notOk((await node.indexes.list()).some(({ layer }) => layer === first.index.layer));
  t.equal(node.layers.byDiffId(first.index.diffId), undefined);
  t.ok(await node.door.has(second.index.diffId), 'what is in use stays');
  await until(() => keeper.mayFill(second), 'there is room');
  const again = await node.pull(1);
  t.not(again, first);
  t.ok(await node.door.has(again.index.diffId));
});

t.test('what is of no image that is here any more is not filled', async (t) => {
  const node = new Node(t.testdir());
  const keeper = node.keep(t);
  const layer = await node.pull(1);
  node.held.add(layer.index.diffId);
  await until(() => keeper.fill.layersInUse === 1, 'the snapshot is seen');
  t.ok(keeper.mayFill(layer));
  node.held.delete(layer.index.diffId);
  node.nowMs += CACHE_LOOK_MS;
  await until(() => keeper.fill.layersInUse === 0, 'its image was removed');
  t.notOk(keeper.mayFill(layer));
  t.equal(await node.pull(1), layer);
  t.ok(keeper.mayFill(layer), 'it is pulled again');
});

t.test('what is in use stays, and the lack is told', async (t) => {
  const node = new Node(t.testdir());
  const keeper = node.keep(t);
  for (const seed of [1, 2]) node.held.add((await node.pull(seed)).index.diffId);
  await until(() => keeper.fill.lack !== undefined, 'there is too much');
  t.match(keeper.fill.lack, /of 2 MiB \(cache\.budget\): what is here is in use/);
  node.nowMs += 2 * PULL_MS;
  await until(() => keeper.fill.layersInUse === 2, 'it was looked at again');
  t.equal(keeper.removed, 0);
});

t.test('where nobody says what is in use nothing goes, and that is told', async (t) => {
  const node = new Node(t.testdir());
  for (const seed of [1, 2]) await node.pull(seed);
  node.nowMs += 2 * PULL_MS;
  Object.defineProperty(node, 'held', {
    get: () => {
      throw new Error('containerd is away');
    },
  });
  const keeper = node.keep(t);
  await until(() => keeper.fill.lack !== undefined, 'there is too much');
  t.match(keeper.fill.lack, /containerd is away/);
  t.equal(keeper.removed, 0);
  t.equal(node.hidden.length, 0);
});

t.test('files that could not go are taken away later, unless their layer is here again', async (t) => {
  const node = new Node(t.testdir());
  const first = await node.pull(1);
  const second = await node.pull(2);
  node.held.add(second.index.diffId);
  node.hideFails = 1;
  node.nowMs += 2 * PULL_MS;
  const keeper = node.keep(t);
  await until(async () => !(await node.door.has(first.index.diffId)), 'it cannot be found any more');
  node.nowMs += LEAVING_MS;
  await until(() => keeper.removed === 1, 'it is gone at the second try');
  t.notOk(existsSync(first.imagePath));
  t.notOk((await node.indexes.list()).some(({ layer }) => layer === first.index.layer));
});

t.test('files that never go keep no other layer here', async (t) => {
  const node = new Node(t.testdir());
  const keeper = node.keep(t);
  const [first, second, last] = [await node.pull(1), await node.pull(2), await node.pull(3)];
  node.stuck = fileNameOf(first.index.diffId);
  node.held.add(last.index.diffId);
  await until(() => keeper.fill.layersInUse === 1, 'the snapshot is seen');
  node.nowMs += PULL_MS;
  const isWithdrawn = async (): Promise<boolean> => !(await node.door.has(second.index.diffId));
  await until(isWithdrawn, 'it cannot be found any more');
  node.nowMs += LEAVING_MS;
  await until(() => node.hidden.includes(fileNameOf(second.index.diffId)), 'the other one goes');
  await until(() => keeper.removed === 1, 'and its files with it');
  t.notOk(existsSync(second.imagePath));
  t.ok(existsSync(last.imagePath), 'what is in use stays');
});

t.test('another budget counts at once', async (t) => {
  const node = new Node(t.testdir());
  for (const seed of [1, 2]) node.held.add((await node.pull(seed)).index.diffId);
  const keeper = node.keep(t);
  await until(() => keeper.fill.lack !== undefined, 'there is too much');
  keeper.adjust({ ...BUDGET, budgetBytes: 10 * FILE_BYTES });
  await until(() => keeper.fill.lack === undefined, 'there is room');
  t.equal(keeper.fill.budgetBytes, 10 * FILE_BYTES);
});

t.test('what keeps it from its work is told until it works again', async (t) => {
  let isBad = true;
  const layer = {
    index: { diffId: digestOf(Buffer.from('x')) },
    diskBytes: async () => {
      if (isBad) throw new Error('EIO: fstat');
      return 7;
    },
  };
  const deps = {
    layers: { cached: () => [{ layer, keptMs: 0, isLocal: false }] },
    held: async () => new Set(),
    log: silentLogger(),
    nowMs: () => 1e12,
  };
  const keeper = new CacheKeeper(deps as unknown as ConstructorParameters<typeof CacheKeeper>[0], BUDGET, 1);
  t.teardown(() => keeper.stop());
  await until(() => keeper.fill.lack !== undefined, 'it is told');
  t.match(keeper.fill.lack, /not kept within their budget: EIO/);
  isBad = false;
  await until(() => keeper.fill.lack === undefined, 'it works');
  t.equal(keeper.fill.usedBytes, 7);
});
