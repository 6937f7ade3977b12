import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import t from 'tap';
import { estargzFooter, parseFooter } from '../../src/estargz/footer.ts';
import type { TocEntry } from '../../src/estargz/toc.ts';
import { verifyEstargz } from '../../src/estargz/verify.ts';
import { builtLayer } from '../support/build-layer.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

const sha = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

const PARTS: TarPart[] = [
  { name: 'd/', typeFlag: '5', mode: 0o755, mtimeSec: 1_700_000_000 },
  { name: 'd/a', payload: Buffer.from('some content'), mode: 0o644, uid: 10, userName: 'ten' },
  {
    name: 'd/b',
    payload: Buffer.from('0123456789'.repeat(3)),
    xattrs: new Map([['user.x', Uint8Array.of(1)]]),
  },
  { name: 'd/l', typeFlag: '2', linkName: 'a' },
  { name: 'null', typeFlag: '3', devMajor: 1, devMinor: 3 },
];

async function verify(
  blob: Uint8Array,
  known: { digest?: string; diffId?: string; tocDigest?: string } = {},
): Promise<string[]> {
  const read = async (offset: number, length: number): Promise<Uint8Array> =>
    blob.subarray(offset, offset + length);
  const { findings } = await verifyEstargz({ sizeBytes: blob.length, read, ...known });
  return findings.map(({ check, message }) => `${check}: ${message}`);
}

t.test('every byte of a layer, flipped in turn, is caught', async (t) => {
  const { blob, digest, diffId, tocDigest } = await builtLayer(writeTar(PARTS), { chunkBytes: 16 });
  t.same(await verify(blob, { digest, diffId, tocDigest }), []);
  const tar = gunzipSync(blob);
  const missed: number[] = [];
  const missedThatMatter: number[] = [];
  for (let at = 0; at < blob.length; at += 1) {
    const flipped = Buffer.from(blob);
    flipped[at] = flipped[at]! ^ 0x01;
    if ((await verify(flipped, { digest, diffId, tocDigest })).length === 0) missed.push(at);
    // Without the blob's digest: some bits of gzip mean nothing to a reader.
    const isMissed = (await verify(flipped, { diffId, tocDigest })).length === 0;
    if (isMissed && !gunzipSync(flipped).equals(tar)) missedThatMatter.push(at);
  }
  t.same(missed, []);
  t.same(missedThatMatter, []);
});

t.test('a layer cut anywhere is caught without a digest', async (t) => {
  const { blob } = await builtLayer(writeTar(PARTS));
  for (let length = 0; length < blob.length; length += 7)
    t.not((await verify(blob.subarray(0, length))).length, 0, `${length} bytes`);
});

/** The layer with another TOC, and a footer that fits. */
function withToc(blob: Buffer, edit: (entries: TocEntry[]) => TocEntry[]): Buffer {
  const footer = parseFooter(blob);
  if (footer?.kind !== 'estargz') throw new Error('no eStargz');
  const tar = gunzipSync(blob.subarray(footer.tocOffset, blob.length - 51));
  const size = Number.parseInt(tar.toString('latin1', 124, 135), 8);
  const { entries } = JSON.parse(tar.toString('utf8', 512, 512 + size)) as { entries: TocEntry[] };
  const payload = Buffer.from(JSON.stringify({ version: 1, entries: edit(entries) }));
  const member = gzipSync(writeTar([{ name: 'stargz.index.json', payload }]));
  return Buffer.concat([blob.subarray(0, footer.tocOffset), member, estargzFooter(footer.tocOffset)]);
}

t.test('a TOC that says something else than the tar is caught', async (t) => {
  const { blob } = await builtLayer(writeTar(PARTS), { chunkBytes: 16 });
  t.same(await verify(withToc(blob, (entries) => entries)), [], 'the same TOC in other words');
  const change = (name: string, fields: Partial<Record<keyof TocEntry, unknown>>) => (entries: TocEntry[]) =>
    entries.map((one) =>
      one.name === name && one.type !== 'chunk' ? ({ ...one, ...fields } as TocEntry) : one,
    );
  const cases: [RegExp, (entries: TocEntry[]) => TocEntry[]][] = [
    [/entries: mode of "d\/a"/, change('d/a', { mode: 0o4755 })],
    [/entries: uid of "d\/a"/, change('d/a', { uid: 0 })],
    [/entries: gid of "d\/a"/, change('d/a', { gid: 5 })],
    [/entries: userName of "d\/a"/, change('d/a', { userName: 'eleven' })],
    [/entries: modtime of "d"/, change('d/', { modtime: '2001-01-01T00:00:00Z' })],
    [/entries: linkName of "d\/l"/, change('d/l', { linkName: '/etc/shadow' })],
    [/entries: type of "d\/l"/, change('d/l', { type: 'hardlink' })],
    [/entries: devMinor of "null"/, change('null', { devMinor: 1 })],
    [/entries: xattrs of "d\/b"/, change('d/b', { xattrs: { 'user.x': 'Ag==' } })],
    [/chunks: "d\/a" does not match/, change('d/a', { digest: `sha256:${'0'.repeat(64)}` })],
    [/chunks: the chunk at 0 of "d\/a"/, change('d/a', { chunkDigest: `sha256:${'0'.repeat(64)}` })],
    [/toc: .*has no digest/, change('d/a', { chunkDigest: undefined })],
    [
      /toc: .*chunks of "d\/b" hold 30 of 31|toc: .*"d\/b"|entries: size of "d\/b"/,
      change('d/b', { size: 31 }),
    ],
    [
      /entries: "null" is in the tar, not in the TOC/,
      (entries) => entries.filter((one) => one.name !== 'null'),
    ],
    [/entries: "new" is in the TOC, not in the tar/, (entries) => [...entries, { name: 'new', type: 'dir' }]],
    [/toc: .*is there twice/, (entries) => [...entries, { name: './d/a', type: 'dir' }]],
    [/toc: .*out of order/, change('d/a', { offset: 1_000_000 })],
    [
      /toc: .*has no file before it/,
      (entries) =>
        entries.toSorted((one, other) => Number(other.type === 'chunk') - Number(one.type === 'chunk')),
    ],
    [/landmark: there are two/, (entries) => [...entries, { name: '.prefetch.landmark', type: 'reg' }]],
    [/toc: .*unknown type/, change('d/l', { type: 'socket' })],
    [/toc: .*not a whole number/, change('d/l', { uid: -1 })],
  ];
  for (const [why, edit] of cases) t.match((await verify(withToc(blob, edit))).join('\n'), why);
});

t.test('two names of the TOC for one chunk and a chunk in the wrong member are caught', async (t) => {
  const { blob } = await builtLayer(
    writeTar([
      { name: 'a', payload: Buffer.from('aaaa') },
      { name: 'b', payload: Buffer.from('bbbb') },
    ]),
  );
  const swapped = withToc(blob, (entries) =>
    entries.map((one) => (one.name === 'b' ? { ...one, innerOffset: 4 } : one)),
  );
  t.match((await verify(swapped)).join('\n'), /chunks: the chunk at 0 of "b"/);
});

t.test('the last file of a truncated member and a foreign footer are named', async (t) => {
  t.match(
    (
      await verify(Buffer.from('not a layer at all, but long enough to hold a footer of fifty-one bytes'))
    ).join(),
    /no eStargz footer/,
  );
  const { blob } = await builtLayer(writeTar(PARTS));
  const far = Buffer.concat([blob.subarray(0, blob.length - 51), estargzFooter(blob.length * 2)]);
  t.match((await verify(far)).join(), /points behind its end/);
  t.match((await verify(blob, { tocDigest: sha(blob) })).join(), /the annotation says/);
  t.match((await verify(blob, { diffId: sha(blob) })).join(), /DiffID/);
});
