import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { layerTree } from '@sepia/lazy/erofs/layer-tree';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { encodeBootstrap } from '@sepia/lazy/rafs/encode-bootstrap';
import { mergeLayers } from '@sepia/lazy/rafs/merge';
import { NydusIndexer } from '@sepia/lazy/rafs/nydus-index';
import { readBootstrap } from '@sepia/lazy/rafs/read-bootstrap';
import t from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { builtRafs, ownBootstrap, readBlob } from '../../../shared/lazy/test/support/build-rafs.ts';
import { type TarPart, writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import type { LayerName } from '../../src/layers/agent-source.ts';
import { SpareSpans } from '../../src/layers/core/spare-spans.ts';
import { LazyLayer } from '../../src/layers/lazy-layer.ts';
import { answerFrom } from '../../src/layers/made-image.ts';

const FILES = Array.from({ length: 40 }, (_none, at) => noise(at, 3_000 + 4_000 * at, 40));
const partsFrom = (from: number, to: number): TarPart[] =>
  FILES.slice(from, to).map((payload, at) => ({ name: `file-${from + at}`, payload }));

t.test('a Nydus image is read from its data blobs, by their digests, in rows of spans', async (t) => {
  const dir = t.testdir();
  const blobs = new Map<string, Buffer>();
  const layers = [];
  for (const parts of [partsFrom(0, 20), partsFrom(20, 40)]) {
    const made = await builtRafs(writeTar(parts));
    if (typeof made === 'string') throw new Error(made);
    blobs.set(made.built.digest, made.blob);
    layers.push({ bootstrap: ownBootstrap(made.built), implied: new Set<string>(), outside: new Map() });
  }
  const merged = mergeLayers(layers, { chunkBytes: 4096, compressor: 'zstd', prioritized: [] });
  if ('unfit' in merged) throw new Error(merged.unfit);
  const bootstrap = readBootstrap(encodeBootstrap(merged));
  const indexer = new NydusIndexer(bootstrap);
  for (const blob of bootstrap.blobs)
    await readBlob(indexer, bootstrap, blob, blobs.get(`sha256:${blob.id}`)!);
  const facts = { layer: digestOf(Buffer.from('l')), diffId: digestOf(Buffer.from('d')), sizeBytes: 9 };
  const sizes = new Map([...blobs].map(([digest, { length }]) => [digest.slice(7), length]));
  const { bytes } = indexer.end(facts, sizes);
  writeFileSync(join(dir, 'index'), bytes);
  const asked: string[] = [];
  let completed = 0;
  const layer = await LazyLayer.open(
    {
      spare: new SpareSpans({ budgetBytes: 0, fullMs: 0 }),
      images: { ask: async ({ head }, question) => answerFrom(head, question) },
      source: {
        read: async ({ digest, repository }: LayerName, start, end) => {
          t.equal(repository, 't/x');
          asked.push(digest);
          return blobs.get(digest)!.subarray(start, end);
        },
      },
      onFetched: () => undefined,
      onComplete: () => {
        completed += 1;
      },
    },
    {
      ...{ dir: () => join(dir, 'layer'), indexFile: join(dir, 'index'), bootId: 'b'.repeat(36) },
      home: { host: 'registry.example', repository: 't/x' },
    },
  );
  const tree = layerTree(readIndexHead(bytes).entries);
  const contentOf = async (at: number): Promise<Buffer> => {
    const { offset, size } = [...tree.children!].find(([name]) => name === `file-${at}`)![1];
    return await layer.readContent(offset, size);
  };
  t.ok((await contentOf(30)).equals(FILES[30]!));
  t.same(new Set(asked), new Set([[...blobs.keys()][1]]), 'the other blob is not asked for');
  for (const [at, bytes] of FILES.entries()) t.ok((await contentOf(at)).equals(bytes), `file ${at}`);
  await layer.read(0, layer.imageBytes);
  t.ok(layer.presence.isComplete);
  t.equal(completed, 1);
  t.ok(asked.length <= layer.index.spans.length, `${asked.length} requests`);
  await layer.close();
});
