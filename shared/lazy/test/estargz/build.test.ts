import { createHash } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { parseFooter } from '../../src/estargz/footer.ts';
import { verifyEstargz } from '../../src/estargz/verify.ts';
import { PackPool } from '../../src/pack/pool.ts';
import { byteStringOf, textOf } from '../../src/tar/byte-string.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { arbitraryParts, madeFit } from '../support/arbitrary-tar.ts';
import { buildLayer, builtLayer } from '../support/build-layer.ts';
import { bytesText, eager, lazy, tarBytes, unpacked } from '../support/layer-tree.ts';
import { type TarPart, writeGlobal, writeOldSparse, writeTar } from '../support/tar-writer.ts';

const sha = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Verifies with everything that is known of a built layer. */
async function findings(built: Awaited<ReturnType<typeof builtLayer>>): Promise<string[]> {
  const { blob, digest, diffId, tocDigest, externalToc } = built;
  const read = async (offset: number, length: number): Promise<Uint8Array> =>
    blob.subarray(offset, offset + length);
  const result = await verifyEstargz({
    sizeBytes: blob.length,
    read,
    digest,
    diffId,
    tocDigest,
    externalToc,
  });
  return result.findings.map(({ check, message }) => `${check}: ${message}`);
}

const file = (name: string, content: string | Uint8Array, more: Partial<TarPart> = {}): TarPart => ({
  name,
  payload: typeof content === 'string' ? Buffer.from(content) : content,
  mode: 0o644,
  ...more,
});
const dir = (name: string, more: Partial<TarPart> = {}): TarPart => ({
  name,
  typeFlag: '5',
  mode: 0o755,
  ...more,
});

t.test('a layer is the same tree before, after, and read lazily', async (t) => {
  const tar = writeTar([
    dir('bin/'),
    file('bin/sh', 'x'.repeat(10_000), { mode: 0o4755, mtimeSec: 1_700_000_000, mtimeNsec: 600_000_000 }),
    { name: 'bin/bash', typeFlag: '1', linkName: 'bin/sh' },
    { name: 'lib', typeFlag: '2', linkName: 'usr/lib' },
    { name: 'dev/null', typeFlag: '3', devMajor: 1, devMinor: 3, mode: 0o666 },
    { name: 'dev/sda', typeFlag: '4', devMajor: 8, devMinor: 70_000 },
    { name: 'run/fifo', typeFlag: '6', mode: 0o600 },
    file('etc/empty', ''),
    file('usr/.wh..wh..opq', ''),
    file('usr/.wh.gone', ''),
    file('ping', 'p', {
      uid: 3_000_000,
      gid: 3_000_000,
      xattrs: new Map([['security.capability', Uint8Array.of(1, 0, 0, 2, 0, 10, 0xff)]]),
    }),
    file(`long/${'n'.repeat(200)}/${'m'.repeat(4000)}`, 'deep'),
  ]);
  const built = await builtLayer(tar);
  t.equal(built.digest, sha(built.blob));
  t.equal(built.sizeBytes, built.blob.length);
  t.equal(built.diffId, sha(gunzipSync(built.blob)));
  t.equal(built.uncompressedBytes, gunzipSync(built.blob).length);
  t.equal(parseFooter(built.blob)?.kind, 'estargz');
  t.same(eager(built.blob), unpacked(tar));
  t.same(await lazy(built.blob), unpacked(tar));
  t.same(await findings(built), []);
});

t.test('of entries of one path the last counts, as after unpacking', async (t) => {
  const cases: Record<string, TarPart[]> = {
    'a file twice': [file('a', 'one'), file('./a', 'two', { uid: 5 })],
    'a directory twice': [dir('d/', { mode: 0o700 }), file('d/x', 'x'), dir('d', { mode: 0o755 })],
    'a directory that becomes a file': [dir('d/'), file('d/x', 'x'), file('d', 'now a file')],
    'a directory that is only implied becomes a link': [
      file('d/e/x', 'x'),
      { name: 'd', typeFlag: '2', linkName: '/' },
    ],
    'a directory that is only implied becomes a file, then a directory': [
      file('d/e/x', 'x'),
      file('d', 'f'),
      dir('d'),
      file('d/e/y', 'y'),
    ],
    'a file that becomes a directory': [file('d', 'f'), dir('d/'), file('d/x', 'x')],
    'links to what is replaced': [
      file('a', 'one', { mode: 0o600, uid: 7 }),
      { name: 'b', typeFlag: '1', linkName: 'a' },
      { name: 'c', typeFlag: '1', linkName: './b' },
      file('a', 'two'),
      { name: 'e', typeFlag: '1', linkName: 'a' },
    ],
    'a link back to its own link': [
      file('a', 'one'),
      { name: 'b', typeFlag: '1', linkName: 'a' },
      { name: 'a', typeFlag: '1', linkName: 'b' },
    ],
    'a linked file below a directory that goes': [
      dir('d/'),
      file('d/x', 'kept by its link'),
      { name: 'y', typeFlag: '1', linkName: 'd/x' },
      file('d', 'f'),
    ],
    'a link to a symbolic link': [
      { name: 's', typeFlag: '2', linkName: 'where' },
      { name: 'h', typeFlag: '1', linkName: 's' },
    ],
  };
  for (const [name, parts] of Object.entries(cases)) {
    const tar = writeTar(parts);
    const built = await builtLayer(tar);
    t.same(eager(built.blob), unpacked(tar), `${name}, unpacked`);
    t.same(await lazy(built.blob), unpacked(tar), `${name}, read lazily`);
    t.same(await findings(built), [], name);
  }
});

t.test('what is read first does not come before what it replaces', async (t) => {
  const tar = writeTar([file('d/e/x', 'x'), file('a', 'a'), { name: 'd', typeFlag: '2', linkName: '/' }]);
  const built = await builtLayer(tar, { prioritized: ['d', 'd/e/x'] });
  t.same(eager(built.blob), unpacked(tar));
  t.same(await lazy(built.blob), unpacked(tar));
  t.same(built.missing, ['d/e/x']);
  const names = tarEntries(gunzipSync(built.blob)).map(({ name }) => name as string);
  t.notOk(
    names.some((name) => name.startsWith('d/')),
    'nothing lies below a link',
  );
});

t.test('global headers are folded into the entries that they change', async (t) => {
  const tar = Buffer.concat([
    writeTar([file('before', 'b')], 'pax', new Uint8Array()),
    writeGlobal(
      new Map([
        ['comment', 'of a commit'],
        ['uid', '77'],
        ['mtime', '1600000000.75'],
      ]),
    ),
    writeTar([file('after', 'a', { pax: new Map([['uid', '5']]) }), file('last', 'l')]),
  ]);
  const built = await builtLayer(tar, { prioritized: ['/last'] });
  t.same(eager(built.blob), unpacked(tar));
  t.same(await lazy(built.blob), unpacked(tar));
  t.equal(eager(built.blob)['last']?.uid, 77);
});

t.test('sparse files of all four forms keep their content', async (t) => {
  const run = Buffer.from('data'.repeat(300));
  const content = Buffer.concat([Buffer.alloc(4096), run, Buffer.alloc(100_000), run, Buffer.alloc(7)]);
  const second = 4096 + run.length + 100_000;
  const numbers = [4096, run.length, second, run.length];
  const payload = Buffer.concat([run, run]);
  const doubled = ['GNU.sparse.offset', 'GNU.sparse.numbytes', 'GNU.sparse.offset', 'GNU.sparse.numbytes'];
  const map = Buffer.alloc(512);
  map.write(`2\n${numbers.join('\n')}\n`);
  const forms: Record<string, Buffer> = {
    'PAX 0.1': writeTar([
      file('GNUSparseFile.0/big', payload, {
        pax: new Map([
          ['GNU.sparse.size', String(content.length)],
          ['GNU.sparse.numblocks', '2'],
          ['GNU.sparse.map', numbers.join(',')],
          ['GNU.sparse.name', 'big'],
        ]),
      }),
    ]),
    'PAX 1.0': writeTar([
      file('GNUSparseFile.0/big', Buffer.concat([map, payload]), {
        pax: new Map([
          ['GNU.sparse.major', '1'],
          ['GNU.sparse.minor', '0'],
          ['GNU.sparse.name', 'big'],
          ['GNU.sparse.realsize', String(content.length)],
        ]),
      }),
    ]),
    'PAX 0.0': withPax(
      [
        ['GNU.sparse.size', String(content.length)],
        ['GNU.sparse.numblocks', '2'],
        ...doubled.map((key, index): [string, string] => [key, String(numbers[index])]),
      ],
      writeTar([file('big', payload)]),
    ),
    'GNU old': writeOldSparse({ name: 'big', payload }, numbers, content.length),
  };
  for (const [name, tar] of Object.entries(forms)) {
    const built = await builtLayer(
      Buffer.concat([tar.subarray(0, tar.length - 1024), writeTar([file('next', 'n')])]),
    );
    const tree = await lazy(built.blob);
    t.ok(tree['big']?.content === content.toString('base64'), `${name}: content, read lazily`);
    t.ok(eager(built.blob)['big']?.content === content.toString('base64'), `${name}: content, unpacked`);
    t.equal(tree['next']?.content, Buffer.from('n').toString('base64'), name);
    t.same(await findings(built), [], name);
  }
  const huge = writeOldSparse({ name: 'big' }, [0, 0], 2 ** 40);
  t.match(await buildLayer(huge), /the limit is/, 'a hole of a TiB is not filled in');
});

function withPax(records: [string, string][], tar: Buffer): Buffer {
  const text = records.map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = rest.length + 1;
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
    return `${length}${rest}`;
  });
  return Buffer.concat([
    writeTar([{ name: 'x', typeFlag: 'x', payload: Buffer.from(text.join('')) }], 'pax', new Uint8Array()),
    tar,
  ]);
}

t.test('what a TOC cannot say leaves the layer as it is, by name', async (t) => {
  const cases: [RegExp, TarPart[]][] = [
    [/hard link to "below".*does not have before it/, [{ name: 'a', typeFlag: '1', linkName: 'below' }]],
    [/does not have before it/, [{ name: 'a', typeFlag: '1', linkName: 'b' }, file('b', 'later')]],
    [/does not have before it/, [file('a', 'x'), { name: 'a', typeFlag: '1', linkName: 'a' }]],
    [/hard link to a directory/, [dir('d'), { name: 'a', typeFlag: '1', linkName: 'd' }]],
    [
      /"lib", which is no directory/,
      [{ name: 'lib', typeFlag: '2', linkName: 'usr/lib' }, file('lib/x', 'x')],
    ],
    [/not named in UTF-8/, [file('caf\xe9', 'x')]],
    [/has the tar type "7"/, [file('a', 'x', { typeFlag: '7' })]],
    [/the root is no directory/, [file('./', 'x')]],
  ];
  for (const [why, parts] of cases) t.match(await buildLayer(writeTar(parts)), why);
});

t.test('an old TOC and old landmarks are left out', async (t) => {
  const tar = writeTar([file('.prefetch.landmark', '\x0f'), file('a', 'x'), file('stargz.index.json', '{}')]);
  const built = await builtLayer(tar);
  t.same(Object.keys(await lazy(built.blob)), ['a']);
  const again = await builtLayer(gunzipSync(built.blob));
  t.ok(again.blob.equals(built.blob), 'a result converted again is itself');
});

t.test('prioritized files come first, with their directories and links, up to the landmark', async (t) => {
  const tar = writeTar([
    dir('usr/'),
    dir('usr/bin/'),
    file('usr/bin/tool', 'tool'),
    dir('opt/'),
    file('opt/a', 'a'),
    { name: 'opt/b', typeFlag: '1', linkName: 'opt/a' },
    file('z', 'z'),
  ]);
  const built = await builtLayer(tar, { prioritized: ['/opt/b', 'usr/bin/tool', '/no/such'] });
  t.same(built.missing, ['/no/such']);
  const names = gunzipNames(built.blob);
  t.same(names, [
    'opt/',
    'opt/a',
    'opt/b',
    'usr/',
    'usr/bin/',
    'usr/bin/tool',
    '.prefetch.landmark',
    'z',
    'stargz.index.json',
  ]);
  t.same(await findings(built), []);
  t.same(await lazy(built.blob), unpacked(tar));
  t.equal(gunzipNames((await builtLayer(tar)).blob)[0], '.no.prefetch.landmark');
});

t.test('what is made anew in a layer comes first behind the whiteout that was before it', async (t) => {
  const tar = writeTar([
    file('opt/.wh.app', ''),
    dir('opt/app/'),
    file('opt/app/.wh.tool', ''),
    file('opt/app/tool', 'tool'),
    file('srv/.wh.data', ''),
    file('srv/data/x', 'x'),
    file('later', 'y'),
    file('.wh.later', ''),
  ]);
  const built = await builtLayer(tar, { prioritized: ['opt/app/tool', 'srv/data/x', 'later'] });
  t.same(gunzipNames(built.blob), [
    'opt/.wh.app',
    'opt/app/',
    'opt/app/.wh.tool',
    'opt/app/tool',
    'srv/.wh.data',
    'srv/data/x',
    'later',
    '.prefetch.landmark',
    '.wh.later',
    'stargz.index.json',
  ]);
});

function gunzipNames(blob: Uint8Array): string[] {
  const tar = gunzipSync(blob);
  const names: string[] = [];
  for (let at = 0; tar[at] !== 0; ) {
    names.push(tar.toString('latin1', at, tar.indexOf(0, at)));
    at += 512 + Math.ceil(Number.parseInt(tar.toString('latin1', at + 124, at + 135), 8) / 512) * 512;
  }
  return names;
}

t.test('with an external TOC a layer that is fit keeps its DiffID', async (t) => {
  const tar = Buffer.concat([writeTar([file('a', 'x'.repeat(3000)), dir('d')]), Buffer.alloc(512)]);
  const built = await builtLayer(tar, { externalToc: true });
  t.equal(built.diffId, sha(tar));
  t.ok(gunzipSync(built.blob).equals(tar));
  t.equal(parseFooter(built.blob)?.kind, 'external');
  t.same(await findings(built), []);
  t.same(await lazy(built.blob, built.externalToc), unpacked(tar));
  const changed = await builtLayer(writeTar([file('a', 'x'), file('a', 'y')]), { externalToc: true });
  t.same(await findings(changed), [], 'one that is not is written anew');
});

t.test('small chunks share members up to the minimum', async (t) => {
  const tar = writeTar([
    ...Array.from({ length: 50 }, (_, index) => file(`f${index}`, `content ${index}`.repeat(20))),
    file('big', Buffer.alloc(100_000, 7)),
  ]);
  const plain = await builtLayer(tar, { chunkBytes: 4096 });
  const shared = await builtLayer(tar, { chunkBytes: 4096, minChunkBytes: 20_000 });
  t.ok(shared.sizeBytes < plain.sizeBytes * 0.6, `${shared.sizeBytes} of ${plain.sizeBytes} bytes`);
  t.same(await lazy(shared.blob), unpacked(tar));
  t.same(await findings(shared), []);
});

t.test('long runs of entries without content are cut into members', async (t) => {
  const parts = Array.from({ length: 20_000 }, (_, index) => dir(`d${index}`));
  const built = await builtLayer(writeTar([file('a', 'x'), ...parts]));
  t.same(await findings(built), []);
  const members = built.blob.toString('latin1').split('\x1f\x8b\x08\x00\0\0\0\0\0\xff').length - 1;
  t.ok(members >= 5, `${members} members`);
});

t.test('every layer: same tree, same bytes on threads, nothing found', { timeout: 120_000 }, async (t) => {
  await using pool = new PackPool(2);
  let fit = 0;
  const text = fc.constantFrom(...'abcü'.split('')).map(bytesText);
  await fc.assert(
    fc.asyncProperty(
      arbitraryParts(30).map(madeFit),
      fc.constantFrom(
        {},
        { chunkBytes: 512 },
        { chunkBytes: 700, minChunkBytes: 2000 },
        { externalToc: true },
      ),
      fc.array(text, { maxLength: 2 }),
      async (parts, options, prioritized) => {
        const tar = writeTar(parts);
        const settings = {
          ...options,
          level: 1,
          prioritized: prioritized.map((name) => textOf(byteStringOf(name))),
        };
        const built = await buildLayer(tar, settings);
        if (typeof built === 'string') return;
        fit += 1;
        const onThreads = await builtLayer(tar, settings, pool);
        if (!onThreads.blob.equals(built.blob)) throw new Error('threads change the bytes');
        const found = await findings(built);
        if (found.length > 0) throw new Error(found.join('\n'));
        t.same(eager(built.blob), unpacked(tar));
        t.same(await lazy(built.blob, built.externalToc), unpacked(tar));
      },
    ),
    { numRuns: 60 },
  );
  t.ok(fit > 30, `${fit} layers were fit`);
});

t.test('a source that fails ends the writing', async (t) => {
  const tar = writeTar([file('a', 'x'.repeat(5000))]);
  const { buildEstargz, BUILD_DEFAULTS } = await import('../../src/estargz/build.ts');
  const { inlinePacker } = await import('../../src/pack/batch.ts');
  const source = { ...tarBytes(tar), readInto: async () => Promise.reject(new Error('disk is gone')) };
  await t.rejects(
    buildEstargz({ source, packer: inlinePacker, take: () => undefined }, tarEntries(tar), BUILD_DEFAULTS),
    /disk is gone/,
  );
});
