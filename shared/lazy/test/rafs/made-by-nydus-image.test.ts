import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import t from 'tap';
import type { RawDescriptor } from '../../src/convert/documents.ts';
import { type NydusBootstrap, verifyBootstrap, verifyNydusBlob } from '../../src/convert/verify-nydus.ts';
import { layerTree } from '../../src/erofs/layer-tree.ts';
import { compressedRange, type LayerIndex, readIndexHead } from '../../src/index/layer-index.ts';
import { readSpan } from '../../src/index/read-span.ts';
import { NydusIndexer } from '../../src/rafs/nydus-index.ts';
import { readSections, SECTIONS } from '../../src/rafs/sections.ts';
import { MemoryScratch } from '../support/memory-images.ts';
import { stacked } from '../support/odd-images.ts';
import { plainTree } from '../support/plain-tree.ts';
import { writeTar } from '../support/tar-writer.ts';

/**
 * What nydus-image 2.2.0 made of two tars, as nydus-snapshotter runs it: `create -t tar-rafs --blob-inline-meta --features
 * blob-toc --whiteout-spec none --chunk-size 0x1000 --compressor … --digester …` for each, then `merge`. All in base64.
 */
interface Fixture {
  readonly layers: readonly string[];
  readonly images: Readonly<
    Record<string, { readonly bootstrap: string; readonly blobs: readonly string[] }>
  >;
}

const FIXTURE: Fixture = JSON.parse(
  gunzipSync(readFileSync(join(import.meta.dirname, 'fixtures/nydus-image-2.2.0.json.gz'))).toString(),
);
const bytesOf = (text: string): Buffer => Buffer.from(text, 'base64');

interface Made {
  readonly blobs: ReadonlyMap<Digest, Buffer>;
  readonly bootstrap: NydusBootstrap;
  readonly layers: readonly RawDescriptor[];
}

async function imageOf(name: string): Promise<Made> {
  const { bootstrap, blobs } = FIXTURE.images[name]!;
  const packed = gzipSync(writeTar([{ name: 'image/image.boot', payload: bytesOf(bootstrap) }]));
  const layers = [...blobs.map(bytesOf), packed].map(
    (bytes): RawDescriptor => ({
      ...{ digest: digestOf(bytes), sizeBytes: bytes.length, mediaType: 'layer', raw: {} },
    }),
  );
  const scratch = await new MemoryScratch().make();
  await scratch.append(packed);
  return {
    blobs: new Map(blobs.map((text) => [digestOf(bytesOf(text)), bytesOf(text)])),
    bootstrap: await verifyBootstrap(layers.at(-1)!, scratch, layers, undefined),
    layers,
  };
}

/** What is wrong with a data blob, but for its digest. */
async function findingsOf(
  { bootstrap, layers }: Made,
  number: number,
  bytes: Buffer,
  indexer?: NydusIndexer,
): Promise<readonly string[]> {
  const scratch = await new MemoryScratch().make();
  await scratch.append(bytes);
  const { findings } = await verifyNydusBlob(...([layers[number]!, scratch, bootstrap, undefined] as const), {
    content: indexer && ((...own: Parameters<NydusIndexer['content']>) => indexer.content(...own)),
  });
  return findings.filter(({ check }) => check !== 'blob').map(({ message }) => message);
}

async function contentOf(index: LayerIndex, bytes: Buffer, blobs: Made['blobs']): Promise<Buffer> {
  const parts = [];
  for (const [number, span] of index.spans.entries()) {
    const { start, end } = compressedRange(index, number);
    const blob = blobs.get(index.sources[span.packed!.source]!.digest)!;
    const window = bytes.subarray(span.windowOffset, span.windowOffset + span.windowLength);
    parts.push(await readSpan(index, number, blob.subarray(start, end), window));
  }
  return Buffer.concat(parts);
}

for (const name of Object.keys(FIXTURE.images))
  t.test(`an image of nydus-image is verified, and read span by span: ${name}`, async (t) => {
    const made = await imageOf(name);
    t.same(made.bootstrap.result.findings, []);
    const indexer = new NydusIndexer(made.bootstrap.read!.bootstrap);
    const sizes = new Map<string, number>();
    for (const [number, [digest, bytes]] of [...made.blobs].entries()) {
      t.same(await findingsOf(made, number, bytes, indexer), []);
      sizes.set(digest.slice('sha256:'.length), bytes.length);
    }
    const last = made.layers.at(-1)!;
    const { bytes } = indexer.end(
      { layer: last.digest, diffId: made.bootstrap.read!.diffId, sizeBytes: last.sizeBytes },
      sizes,
    );
    const index = readIndexHead(bytes);
    const content = await contentOf(index, bytes, made.blobs);
    const found = plainTree(layerTree(index.entries), ({ offset, size }) =>
      content.subarray(offset, offset + size).toString('base64'),
    );
    const meant = stacked(FIXTURE.layers.map(bytesOf));
    t.same(
      Object.keys(found).filter((path) => path !== ''),
      Object.keys(meant),
    );
    // nydus-image keeps no times where owners have 16 bits; links have all rights; directories that a layer has no entry of
    // are root's from then on, whatever a lower one says.
    for (const [path, { type, mode, uid, gid, names, link, attributes, ...node }] of Object.entries(meant))
      t.match(
        found[path],
        {
          ...{ type, names, link },
          ...(type === 'directory' || type === 'symlink' ? {} : { mode, uid, gid }),
          content: type === 'file' ? node.content : '',
          xattrs: attributes.map((one) => one.join('=')),
        },
        path,
      );
  });

t.test('every seventh byte of its blobs, flipped, is caught without the digest of the layer', async (t) => {
  const made = await imageOf('zstd-blake3');
  for (const [number, bytes] of [...made.blobs.values()].entries()) {
    t.same(await findingsOf(made, number, bytes), []);
    const missed: number[] = [];
    for (let at = 0; at < bytes.length; at += 7) {
      const flipped = Buffer.from(bytes);
      flipped[at]! ^= 1;
      if ((await findingsOf(made, number, flipped)).length === 0) missed.push(at);
    }
    // Some bits of zstd mean nothing to a reader.
    const { toc } = await readSections(
      async (from, length) => bytes.subarray(from, from + length),
      bytes.length,
    );
    const { offset, packedBytes } = toc.get(SECTIONS.bootstrap)!;
    t.same(
      missed.filter((at) => at < offset || at >= offset + packedBytes),
      [],
    );
  }
});
