import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import type { LayerBinding } from '@sepia/cluster/api/layer-binding';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import t from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { IndexFolder } from '../../src/layers/index-folder.ts';
import { Layers } from '../../src/layers/layers.ts';
import { openForPull } from '../../src/offers/open-offers.ts';

const TAR = writeTar([{ name: 'bin', payload: noise(1, 90_000) }]);
const BLOB = gzipSync(TAR);
const NEVER = new AbortController().signal;
const IMAGE = { upstream: 'hub', repository: 'team/one' };

function indexed(spanBytes: number): Buffer {
  const indexer = new LayerIndexer({ spanBytes });
  indexer.push(BLOB);
  return Buffer.from(indexer.end().bytes);
}

t.test('a layer that is to make room stays, and its index, while a pull gets another index', async (t) => {
  const dir = t.testdir();
  for (const folder of ['indexes', 'layers']) mkdirSync(join(dir, folder));
  const indexes = new IndexFolder(join(dir, 'indexes'));
  const [one, other] = [indexed(20_000), indexed(40_000)];
  const gate = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const read = async ({ digest }: { digest: string }): Promise<Buffer> => {
    if (digest === digestOf(one)) return one;
    asked.resolve();
    await gate.promise;
    return other;
  };
  const source = { read, readIfThere: read };
  const layers = new Layers(
    { log: silentLogger(), source, onFetched: () => undefined },
    { dir: join(dir, 'layers'), bootId: 'b'.repeat(36) },
  );
  t.teardown(() => layers.close());
  const pull = async (bytes: Buffer) => {
    const index = digestOf(bytes);
    const binding = { index, indexBytes: bytes.length, home: IMAGE } as unknown as LayerBinding;
    const layer = { digest: digestOf(BLOB) as Digest, diffId: digestOf(TAR), binding };
    return await openForPull({ layers, indexes, source }, IMAGE, layer, NEVER);
  };
  const first = await pull(one);
  let isLeaving = true;
  const used = (): void => {
    isLeaving = false;
  };
  layers.follow({ used });
  const second = pull(other);
  await asked.promise;
  const nothing = async (): Promise<void> => undefined;
  const removal = isLeaving
    ? layers.remove(first, nothing, indexes.forgetting(first.index.layer))
    : undefined;
  gate.resolve();
  await removal;
  t.equal(await second, first);
});
