import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { zstdDecompressSync } from 'node:zlib';
import { createZstdFrames } from '@sepia/base/zstd/zstd-stream';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { PackPool } from '../../src/pack/pool.ts';
import { byteStringOf, textOf } from '../../src/tar/byte-string.ts';
import { Crc64 } from '../../src/zstdchunked/crc64.ts';
import { parseZstdFooter } from '../../src/zstdchunked/footer.ts';
import { openZstdChunked } from '../../src/zstdchunked/open.ts';
import { arbitraryParts, madeFit } from '../support/arbitrary-tar.ts';
import { buildZstd, builtZstd, verifyBytes } from '../support/build-zstd.ts';
import { bytesText, unpacked } from '../support/layer-tree.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

const sha = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

async function inflated(blob: Uint8Array): Promise<Buffer> {
  const pieces = Readable.from([Buffer.from(blob)]).pipe(createZstdFrames());
  return Buffer.concat((await pieces.toArray()) as Buffer[]);
}

const file = (name: string, content: string, more: Partial<TarPart> = {}): TarPart => ({
  name,
  payload: Buffer.from(content),
  mode: 0o644,
  ...more,
});

t.test(
  'an ordinary layer keeps its tar to the byte; annotations and footer say where things are',
  async (t) => {
    const tar = Buffer.concat([
      writeTar([
        file('bin/sh', 'x'.repeat(5000), { mtimeSec: 1_700_000_000, mtimeNsec: 600_000_000 }),
        { name: 'bin/bash', typeFlag: '1', linkName: 'bin/sh' },
        file('empty', ''),
      ]),
      Buffer.alloc(8192),
    ]);
    const built = await builtZstd(tar, { chunkBytes: 2048 });
    const { blob, annotations } = built;
    t.ok((await inflated(blob)).equals(tar));
    t.equal(built.diffId, sha(tar));
    t.equal(built.digest, sha(blob));
    const { toc } = parseZstdFooter(blob)!;
    const packed = blob.subarray(toc.offset, toc.offset + toc.sizeBytes);
    const json = zstdDecompressSync(packed);
    const split = annotations['io.github.containers.zstd-chunked.tarsplit-position']!.split(':').map(Number);
    t.same(annotations, {
      'io.github.containers.zstd-chunked.manifest-checksum': sha(packed),
      'io.github.containers.zstd-chunked.manifest-position': `${toc.offset}:${packed.length}:${json.length}:1`,
      'io.github.containers.zstd-chunked.tarsplit-position': split.join(':'),
      'io.containers.zstd-chunked.manifest-checksum': sha(packed),
      'io.containers.zstd-chunked.manifest-position': `${toc.offset}:${packed.length}:${json.length}:1`,
    });
    const { entries, tarSplitDigest } = JSON.parse(json.toString());
    const packedSplit = blob.subarray(split[0]!, split[0]! + split[1]!);
    t.equal(tarSplitDigest, sha(packedSplit));
    t.equal((await inflated(packedSplit)).length, split[2]);
    t.equal(blob.subarray(-48).toString('hex', 0, 8), '502a4d1828000000', 'the footer is 40 bytes');
    const [first, second, third] = entries;
    t.match(first, { name: 'bin/sh', type: 'reg', size: 5000, chunkSize: 2048 });
    t.equal(first.modtime, '2023-11-14T22:13:20.6Z', 'times are exact');
    t.match(second, { type: 'chunk', chunkOffset: 2048, chunkSize: 2048 });
    t.match(third, { type: 'chunk', chunkOffset: 4096, chunkSize: 904 });
    for (const [from, to] of [
      [first.offset, second.offset],
      [second.offset, third.offset],
      [third.offset, third.endOffset],
    ])
      t.match(zstdDecompressSync(blob.subarray(from, to)).toString(), /^x+$/, 'a chunk has its frame alone');
  },
);

t.test('the tar-split gives the tar: segments of headers, files with their CRC-64', async (t) => {
  const tar = writeTar([file('a', 'content'), { name: 'l', typeFlag: '2', linkName: 'a' }]);
  const { blob, annotations } = await builtZstd(tar);
  const position = annotations['io.github.containers.zstd-chunked.tarsplit-position']!;
  const [offset = 0, size = 0] = position.split(':').map(Number);
  const lines = (await inflated(blob.subarray(offset, offset + size))).toString().trim().split('\n');
  const pieces = lines.map((line) => JSON.parse(line));
  t.same(
    pieces.map(({ type, position: at }) => [type, at]),
    [2, 1, 2, 1, 2].map((type, at) => [type, at]),
  );
  t.match(pieces[1], { name: 'a', size: 7 });
  t.match(pieces[3], { name: 'l', payload: null });
  const again = pieces.map(({ type, name, payload }) =>
    type === 2 ? Buffer.from(payload, 'base64') : name === 'a' ? Buffer.from('content') : Buffer.alloc(0),
  );
  t.ok(Buffer.concat(again).equals(tar));
});

t.test('CRC-64 is the one of ISO 3309, however the bytes come', async (t) => {
  // By Go's hash/crc64 with its table ISO.
  const known: [string, string][] = [
    ['', '0000000000000000'],
    ['a', '3420000000000000'],
    ['abc', '3776c42000000000'],
    ['123456789', 'b90956c775a41001'],
    [`${'sepia'.repeat(1000)}x`, '8052420cae1f3c71'],
  ];
  for (const [text, sum] of known)
    for (const step of [1, 3, 4, 1000]) {
      const crc = new Crc64();
      const bytes = Buffer.from(text);
      for (let at = 0; at < bytes.length; at += step) crc.update(bytes.subarray(at, at + step));
      t.equal(crc.digest().toString('hex'), sum, `${text.slice(0, 9)} by ${step}`);
    }
});

t.test('headers that readers take in two ways are made anew', async (t) => {
  const odd = writeTar([
    file('old/', 'a file whose name ends with a slash'),
    file('v7', 'old flag', { typeFlag: '\0' }),
    file('times', 't', { pax: new Map([['atime', '1.5']]) }),
    file('plain', 'p'),
  ]);
  const { blob, diffId } = await builtZstd(odd);
  t.not(diffId, sha(odd));
  const { files } = await openZstdChunked({
    sizeBytes: blob.length,
    read: async (offset, length) => blob.subarray(offset, offset + length),
  });
  t.same(
    files.map(({ entry }) => entry.name),
    ['old', 'v7', 'times', 'plain'],
  );
  t.same((await verifyBytes(blob, { diffId })).texts, []);
  t.match(await buildZstd(writeTar([file('late', 'l', { mtimeSec: 300_000_000_000 })], 'gnu')), /RFC 3339/);
});

t.test('prioritized files come first, up to a landmark; without them there is none', async (t) => {
  const tar = writeTar([file('a', 'a'), file('b', 'b')]);
  const first = await builtZstd(tar, { prioritized: ['/b', '/none'] });
  t.same(Object.keys(unpacked(await inflated(first.blob))).sort(), ['.prefetch.landmark', 'a', 'b']);
  t.same(first.missing, ['/none']);
  t.same((await verifyBytes(first.blob, first)).texts, []);
  const none = await builtZstd(tar, { prioritized: ['/none'] });
  t.equal(none.diffId, sha(tar));
});

t.test('every layer: same tree, same bytes on threads, nothing found', { timeout: 180_000 }, async (t) => {
  await using pool = new PackPool(2);
  let fit = 0;
  const text = fc.constantFrom(...'abcü'.split('')).map(bytesText);
  await fc.assert(
    fc.asyncProperty(
      arbitraryParts(30).map(madeFit),
      fc.constantFrom({}, { chunkBytes: 512 }, { chunkBytes: 700 }),
      fc.array(text, { maxLength: 2 }),
      async (parts, options, names) => {
        const tar = writeTar(parts);
        const prioritized = names.map((name) => textOf(byteStringOf(name)));
        const settings = { ...options, level: 1, prioritized };
        const built = await buildZstd(tar, settings);
        if (typeof built === 'string') return;
        fit += 1;
        const onThreads = await builtZstd(tar, settings, pool);
        if (!onThreads.blob.equals(built.blob)) throw new Error('threads change the bytes');
        const { texts } = await verifyBytes(built.blob, built);
        if (texts.length > 0) throw new Error(texts.join('\n'));
        const { '.prefetch.landmark': _, ...tree } = unpacked(await inflated(built.blob));
        t.same(tree, unpacked(tar));
      },
    ),
    { numRuns: 40 },
  );
  t.ok(fit > 20, `${fit} layers were fit`);
});
