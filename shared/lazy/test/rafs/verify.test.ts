import { createHash } from 'node:crypto';
import { zstdDecompressSync } from 'node:zlib';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { EXTENDED_AT } from '../../src/rafs/format.ts';
import { type ReadBootstrap, readBootstrap } from '../../src/rafs/read-bootstrap.ts';
import { encodeToc, readSections, SECTIONS, sectionHeader, type TocEntry } from '../../src/rafs/sections.ts';
import { verifyRafs } from '../../src/rafs/verify.ts';
import { TarReader } from '../../src/tar/tar-reader.ts';
import { noise } from '../support/arbitrary-gzip.ts';
import { builtRafs, ownBootstrap } from '../support/build-rafs.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

const PARTS: TarPart[] = [
  { name: 'd/', typeFlag: '5', mode: 0o755, mtimeSec: 1_700_000_000 },
  { name: 'd/a', payload: Buffer.from('some content, '.repeat(8)), mode: 0o644 },
  { name: 'd/b', payload: noise(3, 200), xattrs: new Map([['user.x', Uint8Array.of(1)]]) },
  { name: 'd/l', typeFlag: '2', linkName: 'a' },
];

interface Made {
  readonly blob: Buffer;
  readonly digest: string;
  readonly bootstrap: ReadBootstrap;
}

async function made(parts: readonly TarPart[], compressor: 'none' | 'gzip' | 'zstd' = 'zstd'): Promise<Made> {
  const one = await builtRafs(writeTar(parts), { compressor });
  if (typeof one === 'string') throw new Error(one);
  return { blob: one.blob, digest: one.built.digest, bootstrap: ownBootstrap(one.built) };
}

async function findingsOf(blob: Buffer, { bootstrap }: Made, digest?: string): Promise<readonly string[]> {
  const result = await verifyRafs({
    ...{ sizeBytes: blob.length, digest, diffId: digest, blob: bootstrap.blobs[0], chunks: bootstrap.table },
    read: async (offset, length) => {
      if (offset + length > blob.length) throw new RangeError('read behind the end');
      return Buffer.from(blob.subarray(offset, offset + length));
    },
  });
  return result.findings.map(({ message }) => message);
}

for (const [compressor, step] of [
  ['none', 5],
  ['gzip', 5],
  ['zstd', 1],
] as const)
  t.test(`every byte of a blob, flipped in turn, is caught: ${compressor}, step ${step}`, async (t) => {
    const one = await made(PARTS, compressor);
    t.same(await findingsOf(one.blob, one, one.digest), []);
    const missed: number[] = [];
    const missedInside: number[] = [];
    for (let at = 0; at < one.blob.length; at += step) {
      const flipped = Buffer.from(one.blob);
      flipped[at]! ^= 0x01;
      if ((await findingsOf(flipped, one, one.digest)).length === 0) missed.push(at);
      if ((await findingsOf(flipped, one)).length === 0) missedInside.push(at);
    }
    t.same(missed, []);
    // Without the blob's digest: some bits of zstd and gzip mean nothing to a reader.
    const { toc, byHeader } = await readSections(
      async (from, length) => one.blob.subarray(from, from + length),
      one.blob.length,
    );
    const chunks = byHeader.get(SECTIONS.chunks)!;
    const boot = toc.get(SECTIONS.bootstrap)!;
    const isPacked = (at: number): boolean =>
      at < chunks.sizeBytes || (at >= boot.offset && at < boot.offset + boot.packedBytes);
    t.same(
      missedInside.filter((at) => !isPacked(at)),
      [],
    );
  });

t.test('a blob cut anywhere is caught without a digest', async (t) => {
  const one = await made(PARTS);
  for (let length = 0; length < one.blob.length; length += 7)
    t.not((await findingsOf(one.blob.subarray(0, length), one)).length, 0, `${length} bytes`);
});

t.test('a layer without content has a blob with its bootstrap alone', async (t) => {
  const one = await made([{ name: 'd/', typeFlag: '5' }, { name: 'empty' }]);
  t.same(await findingsOf(one.blob, one, one.digest), []);
  t.equal(one.bootstrap.blobs.length, 0);
  const { byHeader } = await readSections(
    async (from, length) => one.blob.subarray(from, from + length),
    one.blob.length,
  );
  t.same([...byHeader.keys()].sort(), [SECTIONS.bootstrap, SECTIONS.toc]);
});

t.test('bytes that are no blob are named, whatever they are', async (t) => {
  const one = await made(PARTS);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ at: fc.nat(one.blob.length - 1), value: fc.nat(255) }), {
        minLength: 1,
        maxLength: 8,
      }),
      async (changes) => {
        const wrong = Buffer.from(one.blob);
        for (const { at, value } of changes) wrong[at] = value;
        if (wrong.equals(one.blob)) return;
        t.not((await findingsOf(wrong, one, one.digest)).length, 0);
      },
    ),
    { numRuns: 200 },
  );
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(512), noise(1, 5000)])
    t.not((await findingsOf(bytes, one)).length, 0);
});

t.test('lengths that no blob has are findings, and nothing is read or unpacked by them', async (t) => {
  const one = await made(PARTS);
  const read = async (from: number, length: number) => one.blob.subarray(from, from + length);
  const { toc } = await readSections(read, one.blob.length);
  const boot = toc.get(SECTIONS.bootstrap)!;
  const raw = zstdDecompressSync(one.blob.subarray(boot.offset, boot.offset + boot.packedBytes));
  const withEnd = (bootstrap: Buffer, changed: (entry: TocEntry) => TocEntry): Buffer => {
    const digest = createHash('sha256').update(bootstrap).digest('hex');
    const [packedBytes, rawBytes] = [bootstrap.length, bootstrap.length];
    const plain = { ...boot, compressor: 'none', digest, packedBytes, rawBytes } as const;
    const entries = [...toc.values()].map((entry) => changed(entry === boot ? plain : entry));
    const end = encodeToc(entries);
    return Buffer.concat([
      ...[one.blob.subarray(0, boot.offset), bootstrap, sectionHeader(SECTIONS.bootstrap, bootstrap.length)],
      ...[end, sectionHeader(SECTIONS.toc, end.length)],
    ]);
  };
  t.same(
    await findingsOf(
      withEnd(raw, (entry) => entry),
      one,
    ),
    [],
    'the same, otherwise written',
  );
  const long = Buffer.from(raw);
  long.writeBigUInt64LE(2n ** 39n, Number(raw.readBigUInt64LE(EXTENDED_AT + 8)) + 88);
  const tooMany = await findingsOf(
    withEnd(long, (entry) => entry),
    one,
  );
  t.ok(
    tooMany.some((message) => /bytes are chunks/.test(message)),
    tooMany.join('; '),
  );
  // Its chunks have no table that is as long, so nothing of it is unpacked.
  for (const rawBytes of [2 ** 52, 2 ** 29, 2 ** 20])
    for (const name of [SECTIONS.table, SECTIONS.digests]) {
      const bomb = withEnd(raw, (entry) =>
        entry.name === name ? { ...entry, compressor: 'zstd', rawBytes } : entry,
      );
      const found = await findingsOf(bomb, one);
      t.ok(
        found.some((message) => message.includes(`${name} is longer than`)),
        found.join('; '),
      );
    }
  const boots = withEnd(raw, (entry) =>
    entry.name === SECTIONS.bootstrap ? { ...entry, compressor: 'zstd', rawBytes: 2 ** 26 + 4096 } : entry,
  );
  const found = await findingsOf(boots, one);
  t.ok(
    found.some((message) => message.includes(`${SECTIONS.bootstrap} is longer than`)),
    found.join('; '),
  );
});

t.test('a header of a section says its length in octal, and beyond 8 GiB as a binary number', async (t) => {
  for (const size of [1, 8 * 2 ** 30 - 1, 8 * 2 ** 30, 2 ** 40]) {
    const header = sectionHeader('rafs.blob.toc', size);
    t.equal(header.length, 512);
    const sizes: number[] = [];
    new TarReader({ entry: (entry) => void sizes.push(entry.size) }).push(header);
    t.same(sizes, [size]);
    const read = readSections(async () => header, 512);
    await t.rejects(read, { code: 'LAYER_INVALID', message: /longer than what is before its header/ });
  }
});

t.test('the same layer gives the same blob', async (t) => {
  t.ok((await made(PARTS)).blob.equals((await made(PARTS)).blob));
  t.throws(() => readBootstrap(Buffer.alloc(0)), { code: 'LAYER_INVALID' });
});
