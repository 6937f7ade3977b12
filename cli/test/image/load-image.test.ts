import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { createDispatcher } from '@sepia/http/sockets';
import { byteStringOf } from '@sepia/lazy/tar/byte-string';
import { EMPTY_HEADER, encodeHeader } from '@sepia/lazy/tar/encode-header';
import { OCI_INDEX, OCI_MANIFEST, parseManifest } from '@sepia/oci/manifest';
import t, { type Test } from 'tap';
import { randomImage } from '../../src/demo/random-image.ts';
import { type Archive, openArchive } from '../../src/image/archive.ts';
import { LayoutWriter } from '../../src/image/layout-writer.ts';
import { loadImage } from '../../src/image/load-image.ts';
import { pushImage } from '../../src/image/push-image.ts';
import { eachBlob, resolveImage } from '../../src/registry/pull-image.ts';
import { RegistryClient } from '../../src/registry/registry-client.ts';
import { Transfers } from '../../src/terminal/transfers.ts';
import { FakeRegistry } from '../support/fake-registry.ts';
import { nowhere } from '../support/nowhere.ts';

/** A registry, and a client of it, until the end of the test. */
async function registryOf(t: Test): Promise<{ registry: FakeRegistry; client: RegistryClient }> {
  const registry = new FakeRegistry();
  const dispatcher = createDispatcher();
  const client = new RegistryClient({ dispatcher }, { url: await registry.start() });
  t.teardown(async () => {
    await dispatcher.destroy();
    await registry.stop();
  });
  return { registry, client };
}

t.test('an image goes out and comes back: push, pull as layout, push the layout and its tar', async (t) => {
  const { registry, client } = await registryOf(t);
  const image = await randomImage({ layers: 2, layerBytes: 512 * 300, seed: 'test' });
  const digest = await pushImage(client, 'a/b', 'v1', image, new Transfers(nowhere()));

  const root = join(t.testdir(), 'layout');
  const writer = new LayoutWriter(root);
  const { manifests, blobs } = await resolveImage(client, 'a/b', 'v1');
  t.equal(manifests[0]!.digest, digest);
  await eachBlob(blobs, async (blob, signal) => {
    const file = await writer.openBlob(blob.digest);
    await client.pullBlob('a/b', blob, (chunk) => file.write(chunk), signal);
    await file.keep();
    await file.close();
  });
  writer.writeManifest(manifests[0]!);
  writer.writeIndex([{ top: manifests[0]!, reference: 'v1' }]);

  execFileSync('tar', ['-cf', `${root}.tar`, '-C', root, '.']);
  for (const path of [root, `${root}.tar`]) {
    const loaded = await loadImage(await openArchive(path), { tag: 'v1' });
    t.same(
      loaded.blobs.map((blob) => blob.digest).sort(),
      image.blobs.map((blob) => blob.digest).sort(),
      path,
    );
    registry.blobs.clear();
    t.equal(await pushImage(client, 'a/b', 'again', loaded, new Transfers(nowhere())), digest);
    t.equal(registry.blobs.size, 3);
  }
});

t.test('the cache of a build, an index of blobs, goes out and comes back as well', async (t) => {
  const { registry, client } = await registryOf(t);
  // Longer than any manifest: nobody is to read it as one.
  const layer = Buffer.alloc(5 * 1024 * 1024, 'layer');
  const parts: [string, Buffer][] = [
    ['application/vnd.oci.image.layer.v1.tar+gzip', layer],
    ['application/vnd.buildkit.cacheconfig.v0', Buffer.from('{"layers":[],"records":[]}')],
  ];
  const manifests = parts.map(([mediaType, bytes]) => ({
    mediaType,
    digest: registry.addBlob(bytes),
    size: bytes.length,
  }));
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
  const entry = { bytes: index, type: OCI_INDEX };
  registry.manifests.set('cache', entry).set(digestOf(index), entry);
  const resolved = await resolveImage(client, 'a/b', 'cache');
  t.same(
    resolved.blobs.map(({ digest }) => digest),
    manifests.map(({ digest }) => digest),
  );
  t.equal(resolved.manifests.length, 1);
  const writer = new LayoutWriter(join(t.testdir(), 'layout'));
  for (const [, bytes] of parts) {
    const file = await writer.openBlob(digestOf(bytes));
    await file.write(bytes);
    await file.keep();
  }
  writer.writeManifest(resolved.manifests[0]!);
  writer.writeIndex([{ top: resolved.manifests[0]!, reference: 'cache' }]);
  const loaded = await loadImage(await openArchive(join(t.testdirName, 'layout')), { tag: 'cache' });
  registry.blobs.clear();
  t.equal(await pushImage(client, 'a/b', 'again', loaded, new Transfers(nowhere())), digestOf(index));
  t.same([...registry.blobs.keys()].sort(), manifests.map(({ digest }) => digest).sort());
});

/** A layout with these images in its index, of which the first alone is there. */
async function layoutOfOne(t: Test, others: readonly object[]): Promise<{ path: string; alone: string }> {
  const { blobs, manifests } = await randomImage({ layers: 1, layerBytes: 512, seed: 'one' });
  const writer = new LayoutWriter(join(t.testdir(), 'layout'));
  for (const blob of blobs) {
    const file = await writer.openBlob(blob.digest);
    for await (const chunk of blob.open() as AsyncIterable<Buffer>) await file.write(chunk);
    await file.keep();
  }
  const [image] = manifests;
  const entry = { mediaType: image!.mediaType, digest: image!.digest, size: image!.bytes.length };
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry, ...others] };
  const bytes = Buffer.from(JSON.stringify(index));
  const top = { bytes, digest: digestOf(bytes), mediaType: OCI_INDEX };
  for (const one of [image!, top]) writer.writeManifest(one);
  writer.writeIndex([{ top, reference: 'v1' }]);
  return { path: join(t.testdirName, 'layout'), alone: image!.digest };
}

t.test('of an index whose other images are nowhere the one that is there is pushed', async (t) => {
  const { registry, client } = await registryOf(t);
  const push = async (path: string): Promise<string> => {
    const loaded = await loadImage(await openArchive(path), { tag: 'v1' });
    return await pushImage(client, 'a/b', 'v1', loaded, new Transfers(nowhere()));
  };
  const other = { mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from('other')), size: 5 };
  const attestation = { ...other, annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } };
  const { path, alone } = await layoutOfOne(t, [other, attestation]);
  t.equal(await push(path), alone);
  t.equal(digestOf(registry.manifests.get('v1')!.bytes), alone);
  registry.addBlob(Buffer.from('other'));
  t.not(await push(path), alone, 'a registry that has the others takes the index');
  const whole = await layoutOfOne(t, []);
  registry.guard = (request, response) => {
    const isTag = request.url!.endsWith('/manifests/v1');
    if (isTag) response.writeHead(400).end();
    return isTag;
  };
  await t.rejects(
    push(whole.path),
    { code: 'REQUEST_INVALID' },
    'what lacks nothing was refused for another reason',
  );
});

t.test('the noise is a tar that tar can read, and the same for the same seed', async (t) => {
  const [first, second, other] = await Promise.all(
    ['x', 'x', 'y'].map((seed) => randomImage({ layers: 1, layerBytes: 512 * 10, seed })),
  );
  t.equal(first!.blobs[0]!.digest, second!.blobs[0]!.digest);
  t.not(first!.blobs[0]!.digest, other!.blobs[0]!.digest);
  const chunks: Buffer[] = [];
  for await (const chunk of first!.blobs[0]!.open() as AsyncIterable<Buffer>) chunks.push(chunk);
  const file = join(t.testdir(), 'layer.tar');
  writeFileSync(file, Buffer.concat(chunks));
  t.match(execFileSync('tar', ['-tvf', file]).toString(), / 5120 .* noise-1\.bin\n$/);
});

t.test('what docker save writes: links between layers, long names, several images', async (t) => {
  const root = join(t.testdir(), 'saved');
  const long = 'f'.repeat(120);
  mkdirSync(join(root, long), { recursive: true });
  writeFileSync(join(root, 'config.json'), '{"os":"linux"}');
  writeFileSync(join(root, long, 'layer.tar'), 'bytes of a layer');
  execFileSync('ln', ['-s', `${long}/layer.tar`, join(root, 'second.tar')]);
  const entry = (tag: string): object => ({
    Config: 'config.json',
    RepoTags: [`a/b:${tag}`],
    Layers: [`${long}/layer.tar`, 'second.tar'],
  });
  writeFileSync(join(root, 'manifest.json'), JSON.stringify([entry('one'), entry('two')]));
  for (const format of ['gnu', 'pax']) {
    const tar = `${root}-${format}.tar`;
    execFileSync('tar', [`--format=${format}`, '-cf', tar, '-C', root, '.']);
    const image = await loadImage(await openArchive(tar), { tag: 'two' });
    t.equal(image.blobs.length, 2, 'both layers are one blob');
    const { descriptors } = parseManifest(image.manifests[0]!.bytes, image.manifests[0]!.mediaType);
    t.same(
      descriptors.map((one) => one.sizeBytes),
      [14, 16, 16],
      format,
    );
    await t.rejects(loadImage(await openArchive(tar), { tag: 'three' }), {
      code: 'REQUEST_INVALID',
      message: /manifest\.json has no image tagged three, but \S*one, \S*two; choose one with --source-tag/,
    });
  }
});

t.test('an image that docker knows by its digest alone has an empty index beside its list', async (t) => {
  const manifests = [{ Config: 'config.json', RepoTags: null, Layers: ['layer.tar'] }];
  const root = t.testdir({
    'index.json': '{"schemaVersion":2,"manifests":null}',
    'manifest.json': JSON.stringify(manifests),
    'config.json': '{}',
    'layer.tar': 'bytes',
  });
  t.equal((await loadImage(await openArchive(root), { tag: 'v1' })).blobs.length, 2);
});

t.test(
  'layers of an archive are what their first bytes say: compressed by other tools, or not',
  async (t) => {
    const tar = Buffer.alloc(1024, 'layer');
    const skipped = Buffer.from('502a4d180400000001020304', 'hex');
    const files = {
      'plain.tar': tar,
      'packed.tar.gz': gzipSync(tar),
      'packed.tar': zstdCompressSync(tar),
      'chunked.tar': Buffer.concat([skipped, zstdCompressSync(tar)]),
      'empty.tar': Buffer.alloc(0),
      'short.tar': Buffer.from('1f', 'hex'),
    };
    const list = [{ Config: 'config.json', RepoTags: ['a:v1'], Layers: Object.keys(files) }];
    const root = t.testdir({ 'config.json': '{}', 'manifest.json': JSON.stringify(list) });
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(root, name), bytes);
    const { manifests } = await loadImage(await openArchive(root), { tag: 'v1' });
    const { layers } = JSON.parse(manifests[0]!.bytes.toString()) as { layers: { mediaType: string }[] };
    t.same(
      layers.map(({ mediaType }) => mediaType.replace('application/vnd.oci.image.layer.v1.', '')),
      ['tar', 'tar+gzip', 'tar+zstd', 'tar+zstd', 'tar', 'tar'],
    );
  },
);

t.test('an image without layers has null for them', async (t) => {
  const list = [{ Config: 'config.json', RepoTags: ['a:v1'], Layers: null }];
  const root = t.testdir({ 'config.json': '{}', 'manifest.json': JSON.stringify(list) });
  const { blobs, manifests } = await loadImage(await openArchive(root), { tag: 'v1' });
  t.equal(blobs.length, 1);
  t.equal(parseManifest(manifests[0]!.bytes, OCI_MANIFEST).descriptors.length, 1);
});

t.test('a file of 8 GiB and more says its size in its pax header alone', async (t) => {
  const block = (name: string, typeFlag: string, size: number): Uint8Array =>
    encodeHeader({ ...EMPTY_HEADER, name: byteStringOf(name), typeFlag, size });
  const padded = (text: string): Buffer =>
    Buffer.concat([Buffer.from(text), Buffer.alloc(512 - text.length)]);
  const config = '{"os":"linux"}';
  const list = JSON.stringify([{ Config: 'c.json', RepoTags: ['a:v1'], Layers: ['l.tar'] }]);
  const path = join(t.testdir(), 'saved.tar');
  const parts = [block('x', 'x', 10), padded('10 size=9\n'), block('l.tar', '0', 0), padded('the layer')];
  for (const [name, text] of [
    ['c.json', config],
    ['manifest.json', list],
  ] as const)
    parts.push(block(name, '0', text.length), padded(text));
  writeFileSync(path, Buffer.concat([...parts, Buffer.alloc(1024)]));
  const { blobs } = await loadImage(await openArchive(path), { tag: 'v1' });
  t.same(blobs.map((blob) => blob.sizeBytes).sort(), [14, 9].sort());
  const bad = Buffer.concat([block('x', 'x', 12), padded('12 size=-12\n'), block('l.tar', '0', 0)]);
  writeFileSync(path, Buffer.concat([bad, Buffer.alloc(1024)]));
  await t.rejects(openArchive(path), {
    code: 'REQUEST_INVALID',
    message: /is no tar that can be read \(.*: size\); expected/,
  });
});

t.test('a layout without the wanted tag names what it has', async (t) => {
  const layout = (manifests: readonly object[]): Promise<Archive> =>
    openArchive(t.testdir({ 'index.json': JSON.stringify({ manifests }) }));
  const tagged = (name: string): object => ({ annotations: { 'org.opencontainers.image.ref.name': name } });
  const wanted = { tag: 'v3', isDemanded: true };
  const cases: [object[], string][] = [
    [[], 'index.json names no image'],
    [[tagged('v1')], 'index.json has no image tagged v3, but v1; it is taken without --source-tag'],
    [
      [tagged('v1'), {}],
      'index.json has no image tagged v3, but v1, one without a tag; choose one with --source-tag',
    ],
  ];
  for (const [manifests, message] of cases)
    await t.rejects(loadImage(await layout(manifests), wanted), { code: 'REQUEST_INVALID', message });
  const many = Array.from({ length: 1_000 }, (_, at) => tagged(`t${at}`));
  await t.rejects(loadImage(await layout(many), wanted), { message: /but t0, .*, t9, 990 more; choose/ });
});

t.test('one image under several names is taken whatever it is called', async (t) => {
  const blob = (bytes: string) => ({ digest: digestOf(Buffer.from(bytes)), size: bytes.length });
  const image = JSON.stringify({ schemaVersion: 2, config: { mediaType: 'a/b', ...blob('{}') }, layers: [] });
  const named = (name: string): object => ({
    ...{ mediaType: OCI_MANIFEST, ...blob(image) },
    annotations: { 'org.opencontainers.image.ref.name': name },
  });
  const files = Object.fromEntries(['{}', image].map((one) => [blob(one).digest.slice(7), one]));
  const root = t.testdir({
    'index.json': JSON.stringify({ manifests: [named('v1'), named('stable')] }),
    blobs: { sha256: files },
  });
  const loaded = await loadImage(await openArchive(root), { tag: 'v2' });
  t.equal(loaded.manifests.at(-1)!.digest, blob(image).digest);
  await t.rejects(loadImage(await openArchive(root), { tag: 'v2', isDemanded: true }), {
    message: /has no image tagged v2, but v1, stable; choose one/,
  });
});

t.test('what is no image is refused in one sentence', async (t) => {
  const root = t.testdir({ empty: {}, text: 'no tar at all, only text'.repeat(40) });
  await t.rejects(openArchive(join(root, 'nothing')), {
    code: 'REQUEST_INVALID',
    message: /cannot be read \(ENOENT\)/,
  });
  await t.rejects(openArchive(join(root, 'text')), { code: 'REQUEST_INVALID', message: /is no tar/ });
  await t.rejects(loadImage(await openArchive(join(root, 'empty')), { tag: 'v1' }), {
    code: 'REQUEST_INVALID',
    message: new RegExp(`^${join(root, 'empty')} holds neither index\\.json`),
  });
  const zipped = join(root, 'x.tar.gz');
  execFileSync('tar', ['-czf', zipped, '-C', root, 'empty']);
  await t.rejects(openArchive(zipped), { code: 'REQUEST_INVALID', message: /is compressed/ });
  const cut = join(root, 'cut.tar');
  execFileSync('tar', ['-cf', cut, '-C', root, 'text']);
  execFileSync('truncate', ['-s', '1000', cut]);
  await t.rejects(openArchive(cut), { code: 'REQUEST_INVALID', message: /is cut short/ });
});

t.test('a folder of others names no file outside of it', async (t) => {
  const outside = ['../key', 'layers/../../key', '..', '../saved/../key', '../key\0'];
  for (const name of outside) {
    const root = t.testdir({
      key: 'of the operator',
      saved: {
        'config.json': '{}',
        layer: 'bytes',
        'manifest.json': JSON.stringify([{ Config: 'config.json', RepoTags: null, Layers: [name] }]),
        layers: {},
      },
    });
    await t.rejects(loadImage(await openArchive(join(root, 'saved')), { tag: 'v1' }), {
      code: 'REQUEST_INVALID',
      message: `${name} is not there`,
    });
  }
  const within = t.testdir({
    'config.json': '{}',
    '..layer': 'bytes',
    'manifest.json': JSON.stringify([{ Config: './config.json', RepoTags: null, Layers: ['a/../..layer'] }]),
    a: {},
  });
  t.equal((await loadImage(await openArchive(within), { tag: 'v1' })).blobs.length, 2);
});

t.test('what lists the images of an archive is checked, and named where it is none', async (t) => {
  const wanted = { tag: 'v1' };
  for (const [file, text, message] of [
    ['index.json', 'null', /^index\.json: /],
    ['index.json', '{"manifests":{}}', /^index\.json: manifests: /],
    ['index.json', '{"manifests":[null]}', /^index\.json: manifests\.0: /],
    ['index.json', '{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":1}}]}', /valid digest/],
    ['index.json', '{', /^index\.json is not valid JSON/],
    ['manifest.json', '{}', /^manifest\.json: /],
    ['manifest.json', '[{"Config":1,"Layers":[]}]', /^manifest\.json: 0\.Config: /],
    ['manifest.json', '[{"Config":"c"}]', /^manifest\.json: 0\.Layers: /],
  ] as const)
    await t.rejects(
      loadImage(await openArchive(t.testdir({ [file]: text })), wanted),
      { code: 'REQUEST_INVALID', message },
      text,
    );
});

t.test('a manifest that an index names again and again is read once', async (t) => {
  const blob = (bytes: string) => ({ digest: digestOf(Buffer.from(bytes)), size: bytes.length });
  const image = JSON.stringify({
    schemaVersion: 2,
    config: { mediaType: 'a/b', ...blob('{}') },
    layers: [{ mediaType: 'a/b', ...blob('layer') }],
  });
  const child = { mediaType: OCI_MANIFEST, ...blob(image) };
  const index = JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: Array(50).fill(child) });
  const files = Object.fromEntries(
    ['{}', 'layer', image, index].map((one) => [blob(one).digest.slice(7), one]),
  );
  const top = { mediaType: OCI_INDEX, ...blob(index) };
  const root = t.testdir({ 'index.json': JSON.stringify({ manifests: [top] }), blobs: { sha256: files } });
  const loaded = await loadImage(await openArchive(root), { tag: 'v1' });
  t.same(
    loaded.manifests.map(({ digest }) => digest),
    [child.digest, top.digest],
  );
});
