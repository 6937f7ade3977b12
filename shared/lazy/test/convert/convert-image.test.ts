import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { type ConvertOptions, type ConvertResult, convertImage } from '../../src/convert/convert-image.ts';
import { LAYER_DEFAULTS } from '../../src/convert/layer-job.ts';
import { TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION } from '../../src/estargz/toc.ts';
import { verifyEstargz } from '../../src/estargz/verify.ts';
import { inlinePacker } from '../../src/pack/batch.ts';
import { eager, lazy, unpacked } from '../support/layer-tree.ts';
import { MemoryImages, MemoryScratch, memoryCache, type Part } from '../support/memory-images.ts';
import { writeTar } from '../support/tar-writer.ts';

interface Manifest {
  readonly mediaType: string;
  readonly config: Part;
  readonly layers: (Part & { annotations?: Record<string, string> })[];
  readonly annotations: Record<string, string>;
}
interface Index {
  readonly mediaType: string;
  readonly manifests: Part[];
  readonly annotations: Record<string, string>;
}

const tarOf = (...names: string[]): Buffer =>
  writeTar(names.map((name) => ({ name, payload: Buffer.from(`content of ${name}`), mode: 0o644 })));

function setup(images: MemoryImages, cache = memoryCache()) {
  const room = new MemoryScratch();
  const events: string[] = [];
  const run = (
    reference: string,
    options: Partial<ConvertOptions> = {},
    signal?: AbortSignal,
  ): Promise<ConvertResult> =>
    convertImage(
      {
        source: images,
        target: images,
        cache,
        packer: inlinePacker,
        scratch: room.make,
        report: {
          layer: () => undefined,
          layerDone: (layer, record, isFromCache) =>
            void events.push(`${record.kind}${isFromCache ? ' from cache' : ''} ${layer.digest}`),
        },
        signal,
      },
      reference,
      { ...LAYER_DEFAULTS, tag: 'result', parallel: 2, ...options },
    );
  return { run, events, room };
}

t.test('an image: layers, DiffIDs, annotations; everything else is kept', async (t) => {
  const images = new MemoryImages();
  const tars = [tarOf('a', 'b'), tarOf('c')];
  const config = {
    created: '2020-01-01T00:00:00Z',
    config: { Labels: { x: 'y' }, StopTimeout: 12345678901234567890n.toString() },
    history: [{ created_by: 'one' }, { created_by: 'two' }],
  };
  const source = images.addImage(tars, { tag: 'app', config });
  const { run, room } = setup(images);
  const result = await run('app');
  t.equal(result.source.digest, source.digest);
  const manifest = images.json<Manifest>('result');
  t.equal(manifest.annotations['io.sepia.conversion.source'], source.digest);
  t.equal(manifest.annotations['io.sepia.conversion.format'], 'estargz');
  const newConfig = JSON.parse(images.blobs.get(manifest.config.digest)!.toString()) as Record<
    string,
    unknown
  >;
  for (const [index, layer] of manifest.layers.entries()) {
    const blob = images.blobs.get(layer.digest)!;
    const diffId = (newConfig['rootfs'] as { diff_ids: string[] }).diff_ids[index]!;
    t.equal(layer.size, blob.length);
    t.equal(diffId, digestOf(gunzipSync(blob)));
    t.equal(layer.annotations![UNCOMPRESSED_SIZE_ANNOTATION], String(gunzipSync(blob).length));
    const read = async (offset: number, length: number): Promise<Uint8Array> =>
      blob.subarray(offset, offset + length);
    const tocDigest = layer.annotations![TOC_DIGEST_ANNOTATION];
    const verified = await verifyEstargz({
      sizeBytes: blob.length,
      read,
      digest: layer.digest,
      diffId,
      tocDigest,
    });
    t.same(verified.findings, []);
    t.same(eager(blob), unpacked(tars[index]!));
  }
  t.same(
    { ...newConfig, rootfs: undefined },
    { architecture: 'amd64', os: 'linux', ...config, rootfs: undefined },
  );
  t.equal(room.held, 0, 'nothing is left behind');
});

t.test('numbers of a config that a double cannot hold stay as they are', async (t) => {
  const images = new MemoryImages();
  const tar = tarOf('a');
  const text = `{"rootfs":{"type":"layers","diff_ids":["${digestOf(tar)}"]},"os":"linux","big":12345678901234567890,"e":1.50}`;
  const config = images.addBlob(Buffer.from(text), 'application/vnd.oci.image.config.v1+json');
  const layer = images.addBlob(tar, 'application/vnd.oci.image.layer.v1.tar');
  images.addManifest(
    { schemaVersion: 2, config, layers: [layer] },
    'application/vnd.oci.image.manifest.v1+json',
    'app',
  );
  await setup(images).run('app');
  const after = images.blobs.get(images.json<Manifest>('result').config.digest)!.toString();
  t.match(after, '"big":12345678901234567890,"e":1.50');
});

t.test('Docker schema 2 becomes OCI; zstd and plain layers are read', async (t) => {
  const images = new MemoryImages();
  images.addImage([tarOf('a')], { tag: 'docker', docker: true });
  await setup(images).run('docker');
  const manifest = images.json<Manifest>('result');
  t.equal(manifest.mediaType, 'application/vnd.oci.image.manifest.v1+json');
  t.equal(manifest.config.mediaType, 'application/vnd.oci.image.config.v1+json');
  t.equal(manifest.layers[0]?.mediaType, 'application/vnd.oci.image.layer.v1.tar+gzip');
  const tar = tarOf('z');
  const config = images.addBlob(
    Buffer.from(JSON.stringify({ rootfs: { diff_ids: [digestOf(tar), digestOf(tar)] } })),
    'application/vnd.oci.image.config.v1+json',
  );
  const layers = [
    images.addBlob(zstdCompressSync(tar), 'application/vnd.oci.image.layer.v1.tar+zstd'),
    images.addBlob(tar, 'application/vnd.oci.image.layer.v1.tar'),
  ];
  images.addManifest(
    { schemaVersion: 2, config, layers },
    'application/vnd.oci.image.manifest.v1+json',
    'two',
  );
  await setup(images).run('two');
  const two = images.json<Manifest>('result');
  t.equal(two.layers[0]?.digest, two.layers[1]?.digest, 'the same tar is the same layer');
});

t.test('every platform of an index; attestations and unknown artifacts as they are', async (t) => {
  const images = new MemoryImages();
  const shared = tarOf('base');
  const amd = images.addImage([shared, tarOf('amd')]);
  const arm = images.addImage([shared, tarOf('arm')], { config: { architecture: 'arm64' } });
  const statement = images.addBlob(Buffer.from('{"predicate":1}'), 'application/vnd.in-toto+json');
  const attestationConfig = images.addBlob(
    Buffer.from('{"architecture":"unknown","os":"unknown","rootfs":{"diff_ids":[]}}'),
    'application/vnd.oci.image.config.v1+json',
  );
  const attestation = images.addManifest(
    { schemaVersion: 2, config: attestationConfig, layers: [statement] },
    'application/vnd.oci.image.manifest.v1+json',
  );
  const chart = images.addManifest(
    {
      schemaVersion: 2,
      config: images.addBlob(Buffer.from('{}'), 'application/vnd.cncf.helm.config.v1+json'),
      layers: [images.addBlob(Buffer.from('chart'), 'application/vnd.cncf.helm.chart.content.v1.tar+gzip')],
    },
    'application/vnd.oci.image.manifest.v1+json',
  );
  const children = [
    { ...amd, platform: { os: 'linux', architecture: 'amd64' } },
    { ...arm, platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
    {
      ...attestation,
      platform: { os: 'unknown', architecture: 'unknown' },
      annotations: {
        'vnd.docker.reference.type': 'attestation-manifest',
        'vnd.docker.reference.digest': amd.digest,
      },
    },
    chart,
  ];
  const source = images.addIndex(children, 'app');
  const { run, events } = setup(images);
  const result = await run('app');
  const index = images.json<Index>('result');
  t.equal(index.annotations['io.sepia.conversion.source'], source.digest);
  t.same(
    index.manifests.slice(2),
    JSON.parse(JSON.stringify(children.slice(2))),
    'attestation and artifact, to the byte',
  );
  t.same(result.copied, [attestation.digest, chart.digest]);
  for (const [place, old] of [amd, arm].entries()) {
    const now = index.manifests[place]!;
    t.not(now.digest, old.digest);
    t.same(now['platform'], children[place]!.platform);
    t.equal(images.json<Manifest>(now.digest).annotations['io.sepia.conversion.source'], old.digest);
  }
  t.equal(events.length, 3, 'the shared layer is converted once');
  await run('app', { platforms: ['linux/arm64'], tag: 'arm' });
  const one = images.json<Index>('arm');
  t.same(
    one.manifests.map((child) => child['platform']),
    [children[1]!.platform, children[2]!.platform],
  );
  await t.rejects(run('app', { platforms: ['linux/s390x'] }), /no platform of linux\/s390x/);
});

t.test('what cannot be converted stays: foreign, encrypted and unfit layers', async (t) => {
  const images = new MemoryImages();
  const fit = tarOf('a');
  const unfit = writeTar([{ name: 'b', typeFlag: '1', linkName: 'below' }]);
  const config = images.addBlob(
    Buffer.from(JSON.stringify({ rootfs: { diff_ids: [fit, unfit, fit, fit].map((tar) => digestOf(tar)) } })),
    'application/vnd.docker.container.image.v1+json',
  );
  const foreign = {
    mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    digest: digestOf(Buffer.from('far')),
    size: 3,
    urls: ['https://registry.example/layer'],
  };
  const layers = [
    images.addBlob(gzipSync(fit), 'application/vnd.docker.image.rootfs.diff.tar.gzip'),
    images.addBlob(gzipSync(unfit), 'application/vnd.docker.image.rootfs.diff.tar.gzip'),
    foreign,
    images.addBlob(Buffer.from('secret'), 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted'),
  ];
  images.addManifest(
    { schemaVersion: 2, config, layers },
    'application/vnd.docker.distribution.manifest.v2+json',
    'app',
  );
  const { run, events } = setup(images);
  const result = await run('app');
  const now = images.json<Manifest>('result').layers;
  t.same(now[1], { ...layers[1], mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' });
  t.same(now[2], { ...foreign, mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip' });
  t.same(now[3], layers[3]);
  t.match(result.layers[1]?.record, { kind: 'kept', reason: /below/ });
  t.same(events.map((event) => event.split(' ')[0]).sort(), ['converted', 'kept']);
});

t.test('an index of attestations alone has nothing to convert', async (t) => {
  const images = new MemoryImages();
  const statement = images.addManifest({ schemaVersion: 2, layers: [] }, OCI_MANIFEST);
  const annotations = { 'vnd.docker.reference.type': 'attestation-manifest' };
  images.addIndex([{ ...statement, annotations }], 'app');
  await t.rejects(setup(images).run('app'), {
    code: 'REQUEST_INVALID',
    message: 'the image has no platform, only attestations',
  });
});

t.test('an artifact alone is copied', async (t) => {
  const images = new MemoryImages();
  const config = images.addBlob(Buffer.from('{}'), 'application/vnd.cncf.helm.config.v1+json');
  const chart = images.addManifest(
    { schemaVersion: 2, config, layers: [] },
    'application/vnd.oci.image.manifest.v1+json',
    'chart',
  );
  const result = await setup(images).run('chart');
  t.equal(result.result.digest, chart.digest);
});

t.test('a source that lies is refused', async (t) => {
  const images = new MemoryImages();
  const config = (ids: string[]): Part =>
    images.addBlob(
      Buffer.from(JSON.stringify({ rootfs: { diff_ids: ids } })),
      'application/vnd.oci.image.config.v1+json',
    );
  const layer = images.addBlob(gzipSync(tarOf('a')), 'application/vnd.oci.image.layer.v1.tar+gzip');
  const broken = images.addBlob(Buffer.from('\x1f\x8bbroken'), 'application/vnd.oci.image.layer.v1.tar+gzip');
  const text = images.addBlob(Buffer.from('x'.repeat(2000)), 'application/vnd.oci.image.layer.v1.tar');
  const cases: [string, Part, Part[]][] = [
    ['DIGEST_MISMATCH', config([digestOf(tarOf('b'))]), [layer]],
    ['MANIFEST_SYNTAX', config([]), [layer]],
    ['MANIFEST_SYNTAX', config(['sha256:short']), [layer]],
    ['LAYER_INVALID', config([layer.digest]), [broken]],
    ['LAYER_INVALID', config([layer.digest]), [text]],
    ['BLOB_UNKNOWN', config([layer.digest]), [{ ...layer, digest: digestOf(Buffer.from('gone')) }]],
  ];
  const { run, room } = setup(images);
  for (const [code, one, layers] of cases) {
    images.addManifest(
      { schemaVersion: 2, config: one, layers },
      'application/vnd.oci.image.manifest.v1+json',
      'app',
    );
    await t.rejects(run('app'), { code });
    t.notOk(images.manifests.has('result'), code);
  }
  t.equal(room.held, 0, 'nothing is left behind');
});

t.test('what was done before a failure is not done again', async (t) => {
  const images = new MemoryImages();
  images.addImage([tarOf('a'), tarOf('b'), tarOf('c')], { tag: 'app' });
  const cache = memoryCache();
  let puts = 0;
  images.onPut = () => {
    puts += 1;
    if (puts === 2) throw new Error('killed');
  };
  const { run, events } = setup(images, cache);
  await t.rejects(run('app', { parallel: 1 }), /killed/);
  t.equal(events.length, 1);
  images.onPut = () => undefined;
  await run('app', { parallel: 1 });
  t.same(
    events.map((event) => event.replace(/ sha256.*/, '')),
    ['converted', 'converted from cache', 'converted', 'converted'],
  );
  const digest = images.manifests.get('result')!.digest;
  const first = images.json<Manifest>('result').layers[0]!;
  images.blobs.delete(first.digest);
  await run('app');
  t.ok(images.blobs.has(first.digest), 'a record whose blob is gone does not count');
  t.equal(images.manifests.get('result')!.digest, digest);
  await run('app', { level: 1, tag: 'other' });
  t.equal(events.filter((event) => event.includes('cache')).length, 3, 'other options, other layers');
});

t.test('a conversion that is stopped ends', async (t) => {
  const images = new MemoryImages();
  images.addImage([tarOf('a'), tarOf('b')], { tag: 'app' });
  const stop = new AbortController();
  images.onPut = () => stop.abort(new Error('stopped'));
  const { run, room } = setup(images);
  await t.rejects(run('app', { parallel: 1 }, stop.signal), /stopped/);
  t.equal(room.held, 0);
});

t.test('tables of contents in an image of their own', async (t) => {
  const images = new MemoryImages();
  const tars = [tarOf('a'), tarOf('b')];
  images.addImage(tars, { tag: 'app' });
  const result = await setup(images).run('app', { externalToc: true });
  const manifest = images.json<Manifest>('result');
  const config = JSON.parse(images.blobs.get(manifest.config.digest)!.toString()) as {
    rootfs: { diff_ids: string[] };
  };
  t.same(
    config.rootfs.diff_ids,
    tars.map((tar) => digestOf(tar)),
    'DiffIDs stay',
  );
  const tocs = images.json<Manifest>(result.tocImage!.digest).layers;
  t.equal(tocs.length, 2);
  for (const [index, layer] of manifest.layers.entries()) {
    const toc = tocs.find(
      (one) => one.annotations!['containerd.io/snapshot/stargz/layer.digest'] === layer.digest,
    );
    t.same(
      await lazy(images.blobs.get(layer.digest)!, images.blobs.get(toc!.digest)!),
      unpacked(tars[index]!),
    );
  }
});

t.test('prioritized files that no layer has are named', async (t) => {
  const images = new MemoryImages();
  images.addImage([tarOf('a'), tarOf('b')], { tag: 'app' });
  const result = await setup(images).run('app', { prioritized: ['/a', '/b', '/c'] });
  t.same(result.missing, ['/c']);
});

t.test('what layers say of names that they do not have is read once', async (t) => {
  const images = new MemoryImages();
  images.addImage([tarOf('a'), tarOf('b')], { tag: 'app' });
  const cache = memoryCache();
  const { run } = setup(images, cache);
  const absent = Array.from({ length: 500 }, (_, at) => `/absent ${at}`);
  const prioritized = ['/a', ...absent, '/b'];
  await run('app', { prioritized });
  let reads = 0;
  for (const [key, record] of cache.records) {
    const get = (names: readonly string[], name: string | symbol): unknown => {
      reads += typeof name === 'string' && /^\d+$/.test(name) ? 1 : 0;
      return Reflect.get(names, name);
    };
    cache.records.set(key, { ...record, missing: new Proxy(record.missing, { get }) });
  }
  t.same((await run('app', { prioritized })).missing, absent);
  t.equal(reads, 2 * 501);
});

t.test('a bug is not taken for an answer', async (t) => {
  const images = new MemoryImages();
  images.addImage([tarOf('a')], { tag: 'app' });
  images.onPut = () => {
    throw new TypeError('a bug');
  };
  await t.rejects(setup(images).run('app'), { name: 'TypeError', message: 'a bug' });
});
