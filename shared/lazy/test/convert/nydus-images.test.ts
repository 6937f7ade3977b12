import { gunzipSync, gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t, { type Test } from 'tap';
import { type ConvertOptions, type ConvertResult, convertImage } from '../../src/convert/convert-image.ts';
import { readDocument } from '../../src/convert/documents.ts';
import { layerDefaults } from '../../src/convert/layer-job.ts';
import { whyResult } from '../../src/convert/results.ts';
import { type VerifiedLayer, verifyImage } from '../../src/convert/verify-image.ts';
import type { TreeNode } from '../../src/erofs/layer-tree.ts';
import { bootstrapIn } from '../../src/rafs/bootstrap-layer.ts';
import { type ReadBootstrap, readBootstrap } from '../../src/rafs/read-bootstrap.ts';
import { contentThrough } from '../support/build-rafs.ts';
import {
  MemoryImages,
  MemoryScratch,
  memoryCache,
  memoryConversion,
  type Part,
} from '../support/memory-images.ts';
import { ODD_IMAGES, stacked } from '../support/odd-images.ts';
import { plainTree } from '../support/plain-tree.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

const DEFAULTS: ConvertOptions = { ...layerDefaults('nydus'), tag: 'result', parallel: 2 };

async function converted(
  images: MemoryImages,
  tag: string,
  more: Partial<ConvertOptions> = {},
  cache = memoryCache(),
): Promise<ConvertResult> {
  const scratch = new MemoryScratch();
  const deps = { ...memoryConversion(images, scratch), cache };
  const result = await convertImage(deps, tag, { ...DEFAULTS, ...more });
  t.equal(scratch.held, 0, 'no scratch is held');
  return result;
}

interface Manifest {
  readonly config: Part;
  readonly layers: (Part & { readonly annotations: Record<string, string> })[];
  readonly subject?: Part;
}

/** The bootstrap of an image, and the bytes of its blobs. */
function bootstrapOf(images: MemoryImages, reference = 'result'): ReadBootstrap {
  const { layers } = images.json<Manifest>(reference);
  return readBootstrap(bootstrapIn(gunzipSync(images.blobs.get(layers.at(-1)!.digest)!)));
}

function contentIn(images: MemoryImages, bootstrap: ReadBootstrap): (node: TreeNode) => string {
  return contentThrough(bootstrap, (id) => images.blobs.get(`sha256:${id}`)!);
}

async function verified(images: MemoryImages, reference = 'result'): Promise<VerifiedLayer[]> {
  const scratch = new MemoryScratch().make;
  const deps = { source: images, scratch, tocImage: async () => undefined, onLayer: () => undefined };
  return await verifyImage(deps, reference, undefined);
}

const textsOf = (layers: readonly VerifiedLayer[]): string[] =>
  layers.flatMap(({ findings }) => findings.map(({ message }) => message));

/** Trees as RAFS has them: no names of owners, links without a mode; directories that nothing describes are there. */
function sameTree(t: Test, images: MemoryImages, meaning: readonly Uint8Array[]): void {
  const bootstrap = bootstrapOf(images);
  const after = plainTree(bootstrap.root, contentIn(images, bootstrap));
  const before = Object.entries(stacked(meaning)).map(([path, node]) => {
    const { userName: _u, groupName: _g, attributes, devMajor, devMinor, ...rest } = node;
    const isDevice = node.type === 'char' || node.type === 'block';
    const xattrs = attributes.map(([name, value]) => `${name}=${value}`).sort();
    const mode = node.type === 'symlink' ? 0o777 : node.mode;
    return [path, { ...rest, mode, xattrs, device: isDevice ? `${devMajor}:${devMinor}` : '' }] as const;
  });
  for (const [path, node] of before) t.strictSame(after[path], node, path);
  const known = new Set(before.map(([path]) => path));
  const others = Object.entries(after).filter(([path]) => !known.has(path));
  for (const [path, node] of others)
    t.match(node, { type: 'directory', mode: 0o755, uid: 0 }, `implied: ${path}`);
}

for (const [name, tars, meaning] of ODD_IMAGES)
  t.test(`tree before = tree after, nydus: ${name}`, async (t) => {
    const images = new MemoryImages();
    images.addImage(tars, { tag: 'odd', config: { history: tars.map(() => ({ created_by: 'x' })) } });
    const result = await converted(images, 'odd');
    t.same(
      result.layers.filter(({ record }) => record.kind === 'kept'),
      [],
    );
    sameTree(t, images, meaning);
    const layers = await verified(images);
    t.same(textsOf(layers), []);
    t.ok(layers.every(({ state }) => state === 'right'));
    const { config, layers: parts } = images.json<Manifest>('result');
    t.equal(parts.length, tars.length + 1);
    t.ok(
      parts
        .slice(0, -1)
        .every(({ annotations }) => annotations['containerd.io/snapshot/nydus-blob'] === 'true'),
    );
    t.match(parts.at(-1), {
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      annotations: {
        'containerd.io/snapshot/nydus-bootstrap': 'true',
        'containerd.io/snapshot/nydus-fs-version': '6',
      },
    });
    const json = JSON.parse(images.blobs.get(config.digest)!.toString());
    t.same(
      json.rootfs.diff_ids.slice(0, -1),
      parts.slice(0, -1).map(({ digest }) => digest),
    );
    t.equal(json.history.length, tars.length + 1);
  });

const file = (name: string, content: string, more: Partial<TarPart> = {}): TarPart => ({
  ...{ name, payload: Buffer.from(content), mode: 0o644 },
  ...more,
});

t.test('an image whose history says less than its layers gets no line for the bootstrap alone', async (t) => {
  const tars = [writeTar([file('a', 'a')]), writeTar([file('b', 'b')])];
  const line = { created_by: 'x' };
  const cases: [history: object[], lines: number][] = [
    [[], 0],
    [[line], 1],
    [[line, { ...line, empty_layer: true }, line], 4],
  ];
  for (const [history, lines] of cases) {
    const images = new MemoryImages();
    images.addImage(tars, { tag: 'app', config: { history } });
    await converted(images, 'app');
    const config = images.blobs.get(images.json<Manifest>('result').config.digest)!;
    t.equal(JSON.parse(config.toString()).history.length, lines);
  }
});

t.test('directories that a layer only implies are those of the layers below', async (t) => {
  const images = new MemoryImages();
  const below = writeTar([{ name: 'd', typeFlag: '5', mode: 0o700, uid: 7 }, file('d/a', 'a')]);
  images.addImage([below, writeTar([file('d/b', 'b')])], { tag: 'app' });
  await converted(images, 'app');
  const { root } = bootstrapOf(images);
  const found = plainTree(root, () => '');
  t.match(found['d'], { mode: 0o700, uid: 7 });
  t.same(Object.keys(found), ['', 'd', 'd/a', 'd/b']);
});

t.test('an image with a layer that cannot be Nydus stays as it is, by name', async (t) => {
  const images = new MemoryImages();
  const link = { name: 'lib', typeFlag: '2', linkName: 'usr/lib' };
  const tars = [writeTar([link, file('usr/lib/a', 'a')]), writeTar([file('lib/b', 'b')])];
  images.addImage(tars, { tag: 'app' });
  const result = await converted(images, 'app');
  const before = images.json<Manifest>('app');
  const after = images.json<Manifest>('result');
  t.same(
    after.layers.map(({ digest }) => digest),
    before.layers.map(({ digest }) => digest),
  );
  t.equal(after.config.digest, before.config.digest);
  t.ok(
    result.layers.every(
      ({ record }) => record.kind === 'kept' && /path-through-link-below: lib/.test(record.reason),
    ),
  );
});

t.test('layers come from the cache, and the same image is made of them', async (t) => {
  const images = new MemoryImages();
  const tars = [writeTar([file('a', 'a'.repeat(5000))]), writeTar([file('b', 'b')])];
  images.addImage(tars, { tag: 'one' });
  images.addImage([...tars, writeTar([file('c', 'c')])], { tag: 'two' });
  const cache = memoryCache();
  const first = await converted(images, 'one', {}, cache);
  const puts = images.puts.length;
  const again = await converted(images, 'one', {}, cache);
  t.equal(again.result.digest, first.result.digest);
  t.ok(again.layers.every(({ isFromCache }) => isFromCache));
  const two = await converted(images, 'two', {}, cache);
  t.same(
    two.layers.map(({ isFromCache }) => isFromCache),
    [true, true, false],
  );
  t.ok(images.puts.length > puts);
  t.same(textsOf(await verified(images)), []);
});

t.test('compressors, prioritized files and how a result stands beside its source', async (t) => {
  const images = new MemoryImages();
  const tar = writeTar([file('a', 'a'.repeat(9000)), file('run', 'program '.repeat(900))]);
  const source = images.addImage([tar], { tag: 'app' });
  for (const compressor of ['none', 'gzip', 'zstd'] as const) {
    const result = await converted(images, 'app', {
      compressor,
      level: 5,
      chunkBytes: 4096,
      prioritized: ['/run', 'none'],
    });
    t.same(textsOf(await verified(images)), [], compressor);
    t.same(result.missing, ['none']);
    const bootstrap = bootstrapOf(images);
    const run = bootstrap.root.children!.get('run' as never)!;
    t.equal(bootstrap.prefetch[0], run);
    t.equal(bootstrap.chunks.get(run)![0]!.packedOffset, 0, 'it comes first');
    t.equal(bootstrap.compressor, compressor);
  }
  await converted(images, 'app', { form: 'image-index', tag: 'both' });
  const index = images.json<{ manifests: (Part & { platform: Record<string, unknown> })[] }>('both');
  t.equal(index.manifests[0]!.digest, source.digest);
  t.same(index.manifests[1]!.platform['os.features'], ['nydus.remoteimage.v1']);
  t.same(textsOf(await verified(images, index.manifests[1]!.digest)), []);
  await converted(images, 'app', { form: 'referrer', tag: 'referrer' });
  t.equal(images.json<Manifest>('referrer').subject!.digest, source.digest);
  for (const tag of ['result', 'both', 'referrer']) {
    const document = images.manifests.get(tag)!;
    t.ok(whyResult(readDocument(document.bytes, document.mediaType)), `${tag} is never a source`);
  }
  await t.rejects(converted(images, 'result', layerDefaults('estargz')), {
    code: 'REQUEST_INVALID',
    message: /is a Nydus image/,
  });
});

t.test('every platform of an index becomes Nydus', async (t) => {
  const images = new MemoryImages();
  const one = images.addImage([writeTar([file('a', 'one')])]);
  const two = images.addImage([writeTar([file('a', 'two')])], { config: { architecture: 'arm64' } });
  images.addIndex(
    [
      { ...one, platform: { os: 'linux', architecture: 'amd64' } },
      { ...two, platform: { os: 'linux', architecture: 'arm64' } },
    ],
    'app',
  );
  await converted(images, 'app');
  const layers = await verified(images);
  t.equal(layers.length, 4);
  t.ok(layers.every(({ state }) => state === 'right'));
});

t.test('a blob or bootstrap that was changed is wrong, and said so', async (t) => {
  const images = new MemoryImages();
  images.addImage([writeTar([file('a', 'content of a file')])], { tag: 'app' });
  await converted(images, 'app');
  const { layers } = images.json<Manifest>('result');
  for (const [index, message] of [
    /does not match its digest/,
    /cannot be decompressed|does not match its digest/,
  ].entries()) {
    const { digest } = layers[index]!;
    const right = images.blobs.get(digest)!;
    const wrong = Buffer.from(right);
    wrong[wrong.length >> 1]! ^= 0x10;
    images.blobs.set(digest, wrong);
    t.match(textsOf(await verified(images)).join('\n'), message);
    images.blobs.set(digest, right);
  }
  t.same(textsOf(await verified(images)), []);
});

t.test('a bootstrap layer with more than its files: what it is, it says', async (t) => {
  const images = new MemoryImages();
  images.addImage([writeTar([file('a', 'content of a file')])], { tag: 'app' });
  await converted(images, 'app');
  const manifest = images.json<Manifest>('result');
  const last = manifest.layers.at(-1)!;
  const packed = images.blobs.get(last.digest)!;
  const tar = gunzipSync(packed);
  /** What the verifier says of the image with another last layer. */
  const saidOf = async (bytes: Buffer, raw: Buffer): Promise<string[]> => {
    const config = JSON.parse(images.blobs.get(manifest.config.digest)!.toString());
    config.rootfs.diff_ids.splice(-1, 1, digestOf(raw));
    const layers = [
      ...manifest.layers.slice(0, -1),
      { ...last, ...images.addBlob(bytes, last['mediaType']) },
    ];
    const part = images.addBlob(Buffer.from(JSON.stringify(config)), manifest.config.mediaType);
    images.addManifest({ ...manifest, config: part, layers }, OCI_MANIFEST, 'other');
    return textsOf(await verified(images, 'other'));
  };
  const more = Buffer.concat([writeTar([file('b', 'x'.repeat(2_000_000))], 'pax', Buffer.alloc(0)), tar]);
  t.same(await saidOf(gzipSync(more), more), [], 'files that it need not have');
  t.match(await saidOf(gzipSync(more), tar), [/does not match its DiffID/]);
  t.match(await saidOf(Buffer.concat([packed, Buffer.alloc(40, 7)]), tar), [/has no header/]);
  const empty = writeTar([file('b', 'b')]);
  t.match((await saidOf(gzipSync(empty), empty))[0], /its bootstrap layer has no image\/image.boot/);
});
