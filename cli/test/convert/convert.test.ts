import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { summaryText } from '../../src/convert/convert-view.ts';
import { besideSource, sourcePlace } from '../../src/convert/place.ts';
import { openArchive } from '../../src/image/archive.ts';
import { loadImage } from '../../src/image/load-image.ts';
import { buildProgram } from '../../src/program.ts';
import { addImage, convert, OCI_MANIFEST, registry, tarOf } from '../support/conversions.ts';
import { MAIN, sepia } from '../support/sepia.ts';

// Commands as processes of their own take their time on a busy machine.
t.setTimeout(180_000);

t.test('from a registry to a registry, verified, and again from records', async (t) => {
  const { fake, host } = await registry(t);
  const source = addImage(fake, 'one', [tarOf({ a: 'content' }), tarOf({ b: 'x'.repeat(5000) })]);
  const work = ['--work-dir', t.testdir()];
  const first = await sepia('convert', `${host}/app:one`, '--json', ...work);
  t.equal(first.code, 0, first.err);
  const told = JSON.parse(first.out) as {
    result: { reference: string; digest: string };
    source: { digest: string };
    layers: { isFromCache: boolean }[];
  };
  t.equal(told.source.digest, source);
  t.equal(told.result.reference, `${host}/app:one-estargz`);
  t.equal(told.result.digest, digestOf(fake.manifests.get('one-estargz')!.bytes));
  t.same(
    told.layers.map((layer) => layer.isFromCache),
    [false, false],
  );
  const again = await sepia('convert', `${host}/app:one`, `${host}/app:two`, ...work);
  t.match(again.out, /2 layers \(2 were there already/);
  t.equal(digestOf(fake.manifests.get('two')!.bytes), told.result.digest);
  const verified = await sepia('lazy', 'verify', `${host}/app:two`, ...work);
  t.match(verified.out, /2 layers are right, 0 wrong, 0 not converted/);
  t.equal(verified.code, 0);
  t.equal(
    (await sepia('lazy', 'verify', `${host}/app:one`, ...work)).code,
    1,
    'an ordinary image is not lazy',
  );
});

t.test('to zstd:chunked, where layers keep their DiffIDs, and from there to eStargz', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'content' })]);
  const work = ['--work-dir', t.testdir()];
  const made = await sepia('convert', `${host}/app:one`, '--to', 'zstdchunked', ...work);
  t.equal(made.code, 0, made.err);
  const manifestOf = (tag: string) =>
    JSON.parse(fake.manifests.get(tag)!.bytes.toString()) as {
      config: { digest: string };
      layers: { mediaType: string; annotations: Record<string, string> }[];
    };
  const zstd = manifestOf('one-zstdchunked');
  t.equal(zstd.config.digest, manifestOf('one').config.digest);
  t.equal(zstd.layers[0]?.mediaType, 'application/vnd.oci.image.layer.v1.tar+zstd');
  const verified = await sepia('lazy', 'verify', `${host}/app:one-zstdchunked`, ...work);
  t.match(verified.out, /1 layers are right, 0 wrong/);
  await sepia('convert', `${host}/app:one-zstdchunked`, `${host}/app:back`, ...work);
  t.same(Object.keys(manifestOf('back').layers[0]!.annotations).sort(), [
    'containerd.io/snapshot/stargz/toc.digest',
    'io.containers.estargz.uncompressed-size',
  ]);
  for (const wrong of [['--external-toc'], ['--min-chunk-size', '9'], ['--level', '20']]) {
    const refused = await sepia('convert', `${host}/app:one`, '--to', 'zstdchunked', ...wrong, ...work);
    t.match(refused.err, wrong[0], `${wrong.join(' ')} does not go with it`);
    t.not(refused.code, 0);
  }
});

t.test('to Nydus, which is verified, and of which nothing is made', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'content' }), tarOf({ b: 'more' })]);
  const work = ['--work-dir', t.testdir()];
  const made = await sepia('convert', `${host}/app:one`, '--to', 'nydus', '--compressor', 'gzip', ...work);
  t.equal(made.code, 0, made.err);
  const { layers } = JSON.parse(fake.manifests.get('one-nydus')!.bytes.toString()) as {
    layers: { mediaType: string }[];
  };
  const blob = 'application/vnd.oci.image.layer.nydus.blob.v1';
  t.same(
    layers.map(({ mediaType }) => mediaType),
    [blob, blob, 'application/vnd.oci.image.layer.v1.tar+gzip'],
  );
  const verified = await sepia('lazy', 'verify', `${host}/app:one-nydus`, ...work);
  t.match(verified.out, /3 layers are right, 0 wrong, 0 not converted/);
  const again = await sepia('convert', `${host}/app:one-nydus`, `${host}/app:back`, ...work);
  t.match(again.err, /is a Nydus image/);
  for (const wrong of [['--external-toc'], ['--chunk-size', '5000'], ['--compressor', 'lz4']]) {
    const refused = await sepia('convert', `${host}/app:one`, '--to', 'nydus', ...wrong, ...work);
    t.match(refused.err, wrong[0], `${wrong.join(' ')} does not go with it`);
    t.not(refused.code, 0);
  }
  const gzip = await sepia('convert', `${host}/app:one`, '--compressor', 'gzip', ...work);
  t.match(gzip.err, /--compressor: only Nydus/);
});

t.test('a wrong layer is named by verify', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'content' })]);
  const work = ['--work-dir', t.testdir()];
  await sepia('convert', `${host}/app:one`, ...work);
  const manifest = JSON.parse(fake.manifests.get('one-estargz')!.bytes.toString()) as {
    layers: { annotations: Record<string, string> }[];
  };
  manifest.layers[0]!.annotations['containerd.io/snapshot/stargz/toc.digest'] = `sha256:${'0'.repeat(64)}`;
  const bytes = Buffer.from(JSON.stringify(manifest));
  fake.manifests
    .set('bad', { bytes, type: OCI_MANIFEST })
    .set(digestOf(bytes), { bytes, type: OCI_MANIFEST });
  const verified = await sepia('lazy', 'verify', `${host}/app:bad`, ...work);
  t.equal(verified.code, 1);
  t.match(verified.out, /wrong: 2 entries.*\n +toc: the TOC has the digest .* the annotation says/);
});

t.test('layouts and tars, in and out', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'content' })]);
  const folder = t.testdir();
  const work = join(folder, 'work');
  const [layout, tar, back] = ['layout', 'image.tar', 'back'].map((name) => join(folder, name));
  await convert(`${host}/app:one`, layout!, work);
  await convert(layout!, tar!, work, { externalToc: true });
  await convert(tar!, `${host}/app:three`, work);
  const image = await loadImage(await openArchive(tar!), { tag: 'latest' });
  t.equal(image.manifests.length, 1);
  await convert(tar!, back!, work, { externalToc: true });
  t.same(readdirSync(folder).sort(), ['back', 'image.tar', 'layout', 'work'], 'nothing else is left');
  const { layers } = JSON.parse(fake.manifests.get('three')!.bytes.toString()) as {
    layers: { digest: string }[];
  };
  t.ok(gunzipSync(fake.blobs.get(layers[0]!.digest)!).includes('content'));
  const { code, out } = await sepia('lazy', 'verify', back!, '--work-dir', work);
  t.match(out, /right: 2 entries, 2 chunks/, 'the TOC is found in the layout');
  t.equal(code, 0);
  const layer = image.manifests[0]!.bytes.toString().match(/"layers":\[\{[^\]]*?sha256:([0-9a-f]{64})/)?.[1];
  const blob = join(back!, 'blobs', 'sha256', layer!);
  const bytes = readFileSync(blob);
  bytes[30]! ^= 1;
  writeFileSync(blob, bytes);
  const damaged = await sepia('lazy', 'verify', back!, '--work-dir', work);
  t.match(
    damaged.out,
    new RegExp(`sha256:${layer}.*wrong[^]*blob: `),
    'and a damaged layer is told, not refused',
  );
  t.equal(damaged.code, 1);
});

t.test('a conversion that fails leaves nothing on the disk that nobody can use', async (t) => {
  const { fake, host } = await registry(t);
  const folder = t.testdir();
  const work = join(folder, 'work');
  const [layout, tar] = ['layout', 'image.tar'].map((name) => join(folder, name)) as [string, string];
  for (const target of [layout, tar])
    await t.rejects(convert(`${host}/app:none`, target, work), /MANIFEST_UNKNOWN/);
  const left = (): string[] => readdirSync(folder).filter((name) => name !== 'work');
  t.same(left(), [], 'no folder where nothing was converted');
  addImage(fake, 'bad', [tarOf({ a: 'content' }), Buffer.from('not a tar')]);
  for (const target of [layout, tar])
    await t.rejects(convert(`${host}/app:bad`, target, work), { code: 'LAYER_INVALID' });
  t.notOk(
    left().some((name) => name.startsWith('image.tar')),
    'of a tar nothing is left',
  );
});

t.test('a registry that is not there is named in words of registries', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const message = new RegExp(`^http://127.0.0.1:${port} does not answer \\(.*ECONNREFUSED[^;]*\\)$`);
  const layout = join(t.testdir(), 'layout');
  const converted = convert(`127.0.0.1:${port}/app:one`, layout, t.testdir());
  await t.rejects(converted, { code: 'REGISTRY_DOWN', message });
});

t.test('prioritized files', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'first', z: 'last' })]);
  const result = await convert(`${host}/app:one`, `${host}/app:two`, t.testdir(), {
    prioritized: ['/z', '/nowhere'],
  });
  t.match(summaryText(result, 'x', 1), /no layer has the prioritized file \/nowhere/);
  const missing = Array.from({ length: 100 }, (_, at) => `/${at}\u001b[31m`);
  const many = summaryText({ ...result, missing }, 'x', 1);
  t.match(many, '/0\\u001b[31m\n');
  t.match(many, /no layer has 80 further prioritized files; --json names all\n$/);
  t.equal(many.split('\n').length, 2 + 20 + 1 + 1);
  const { layers } = JSON.parse(fake.manifests.get('two')!.bytes.toString()) as {
    layers: { digest: string }[];
  };
  t.ok(gunzipSync(fake.blobs.get(layers[0]!.digest)!).toString('latin1').startsWith('z\0'));
});

t.test('files that a recorded start read come first, behind those of a list', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'first', m: 'listed', z: 'read at the start' })]);
  const manifest = `sha256:${'a'.repeat(64)}`;
  const layer = 'sha256:aa';
  const snapshotter = createServer((req, res) => {
    const images = [
      { image: 'local/app', manifest, isLazy: true, layers: [{ digest: layer, diffId: 'x' }], atMs: 1 },
    ];
    const files = [
      { path: 'z', turn: 1 },
      { path: 'm', turn: 2 },
    ];
    const reads = [{ layer, isWhole: false, files }];
    res.end(JSON.stringify(req.url === '/debug/images' ? images : reads));
  });
  await once(snapshotter.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => snapshotter.close());
  const admin = `http://127.0.0.1:${(snapshotter.address() as AddressInfo).port}`;
  const folder = t.testdir({ list: '\uFEFFm\n' });
  const run = async (...more: string[]): ReturnType<typeof sepia> =>
    await sepia(
      'convert',
      `${host}/app:one`,
      `${host}/app:two`,
      '--work-dir',
      folder,
      '--admin',
      admin,
      ...more,
    );
  t.match(await run('--profile', 'other:1'), { err: /other:1 was not pulled lazily/ });
  const names = async (): Promise<string[]> => {
    const { layers } = JSON.parse(fake.manifests.get('two')!.bytes.toString()) as {
      layers: { digest: string }[];
    };
    const tar = gunzipSync(fake.blobs.get(layers[0]!.digest)!).toString('latin1');
    return ['a', 'm', 'z'].sort((one, other) => tar.indexOf(`${one}\0`) - tar.indexOf(`${other}\0`));
  };
  t.equal((await run('--profile', 'app:one')).code, 0);
  t.same(await names(), ['z', 'm', 'a']);
  t.equal((await run('--profile', 'app:one', '--prioritize', join(folder, 'list'))).code, 0);
  t.same(await names(), ['m', 'z', 'a']);
});

t.test('usage that makes no sense is refused by name', async (t) => {
  const folder = t.testdir({ list: '# what it reads\n/z\n\n' });
  const cases: [RegExp, string[]][] = [
    [/--prioritize: .* cannot be read \(ENOENT\)/, ['x:1', '--prioritize', join(folder, 'none')]],
    [/--level: 12 is not 0 to 9/, ['x:1', '--level', '12']],
    [/--chunk-size: at least 512/, ['x:1', '--chunk-size', '1', '--prioritize', join(folder, 'list')]],
    [/--platform: "amd64" is not like/, ['x:1', '--platform', 'amd64']],
    [/needs a tag, not a digest/, ['x:1', `x@sha256:${'0'.repeat(64)}`]],
    [/is not there/, ['./nowhere', 'x:1']],
    [/say where the result goes/, [folder]],
    [/say where the result goes/, [`x@sha256:${'0'.repeat(64)}`]],
  ];
  for (const [message, args] of cases)
    await t.rejects(
      (await buildProgram('convert')).parseAsync(['node', 'sepia', 'convert', ...args, '--work-dir', folder]),
      { message },
      args.join(' '),
    );
});

t.test('names of registries', async (t) => {
  const where = { defaultProxy: 'http://127.0.0.1:17300' };
  const cases: [string, object, object][] = [
    ['app:1', {}, { url: 'http://127.0.0.1:17300', repository: 'app' }],
    [
      'registry.example/lib/app:1',
      {},
      { url: 'https://registry.example', host: 'registry.example', repository: 'lib/app' },
    ],
    ['registry.example/lib/app:1', { plainHttp: true }, { url: 'http://registry.example' }],
    [
      'registry.example/lib/app:1',
      { proxy: 'http://127.0.0.1:9' },
      { url: 'http://127.0.0.1:9', repository: 'registry.example/lib/app' },
    ],
    ['localhost:5000/app:1', {}, { url: 'http://localhost:5000', repository: 'app' }],
    [
      'docker.io/alpine',
      {},
      { url: 'https://registry-1.docker.io', repository: 'library/alpine', reference: 'latest' },
    ],
  ];
  for (const [text, more, wanted] of cases) t.match(sourcePlace(text, { ...where, ...more }), wanted, text);
  t.match(besideSource(sourcePlace('app:1', where), '-estargz'), {
    repository: 'app',
    reference: '1-estargz',
  });
});

t.test('stopped by a signal, the same command goes on', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'one' }), tarOf({ b: 'two' })]);
  const folder = t.testdir();
  const args = ['convert', `${host}/app:one`, '--work-dir', folder];
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let uploads = 0;
  fake.guard = (request) => {
    if (request.method === 'PUT' && request.url?.includes('/uploads/') === true) uploads += 1;
    if (uploads < 2) return false;
    child.kill('SIGINT');
    return true;
  };
  const [code] = (await once(child, 'close')) as [number];
  t.equal(code, 130);
  t.same(readdirSync(join(folder, 'work')), [], 'no layer is left on disk');
  fake.guard = undefined;
  const done = await sepia(...args);
  t.match(done.out, /2 layers \(1 were there already/);
  t.equal(readdirSync(join(folder, 'layers')).length, 2);
  t.match(
    readFileSync(join(folder, 'layers', readdirSync(join(folder, 'layers'))[0]!), 'utf8'),
    '"kind":"converted"',
  );
});
