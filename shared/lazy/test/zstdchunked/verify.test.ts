import { throwIfBug } from '@sepia/base/failure';
import t from 'tap';
import { resumeZstd } from '../../src/zstd/zstd-spans.ts';
import { zstdFooter } from '../../src/zstdchunked/footer.ts';
import { openZstdChunked } from '../../src/zstdchunked/open.ts';
import { builtZstd, verifyBytes } from '../support/build-zstd.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

const PARTS: TarPart[] = [
  { name: 'd/', typeFlag: '5', mode: 0o755, mtimeSec: 1_700_000_000 },
  { name: 'd/a', payload: Buffer.from('some content'), mode: 0o644, uid: 10, userName: 'ten' },
  {
    name: 'd/b',
    payload: Buffer.from('0123456789'.repeat(4)),
    xattrs: new Map([['user.x', Uint8Array.of(1)]]),
  },
  { name: 'd/l', typeFlag: '2', linkName: 'a' },
  { name: 'null', typeFlag: '3', devMajor: 1, devMinor: 3 },
];

/** All that the frames hold, skippable ones left out. */
async function unpackedBytes(blob: Buffer, length: number): Promise<Buffer | undefined> {
  try {
    return await resumeZstd(blob, length);
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}

t.test('every byte of a layer, flipped in turn, is caught', async (t) => {
  const tar = writeTar(PARTS);
  const { blob, digest, diffId, annotations } = await builtZstd(tar, { chunkBytes: 16 });
  t.same((await verifyBytes(blob, { digest, diffId, annotations })).texts, []);
  const missed: number[] = [];
  const missedThatMatter: number[] = [];
  for (let at = 0; at < blob.length; at += 1) {
    const flipped = Buffer.from(blob);
    flipped[at] = flipped[at]! ^ 0x01;
    if ((await verifyBytes(flipped, { digest, diffId, annotations })).findings.length === 0) missed.push(at);
    // Without the blob's digest: some bits of zstd mean nothing to a reader.
    const isMissed = (await verifyBytes(flipped, { diffId, annotations })).findings.length === 0;
    if (isMissed && (await unpackedBytes(flipped, tar.length))?.equals(tar) !== true)
      missedThatMatter.push(at);
  }
  t.same(missed, []);
  t.same(missedThatMatter, []);
});

t.test('a layer cut anywhere is caught without a digest', async (t) => {
  const { blob } = await builtZstd(writeTar(PARTS));
  for (let length = 0; length < blob.length; length += 3)
    t.not((await verifyBytes(blob.subarray(0, length))).findings.length, 0, `${length} bytes`);
});

t.test('bytes between the parts and a foreign footer are named', async (t) => {
  const { blob, annotations } = await builtZstd(writeTar(PARTS));
  const { footer, tarSplit } = await openZstdChunked({
    sizeBytes: blob.length,
    read: async (offset, length) => blob.subarray(offset, offset + length),
  });
  const footerAt = blob.length - footer.sizeBytes;
  const behind = Buffer.concat([blob.subarray(0, footerAt), Buffer.alloc(16), blob.subarray(footerAt)]);
  t.match((await verifyBytes(behind)).texts.join(), /no frame of its own for its tar-split/);
  const none = Buffer.concat([blob.subarray(0, tarSplit!.offset - 8), blob.subarray(footerAt)]);
  t.match((await verifyBytes(none)).texts.join(), /names a tar-split that the layer does not have/);
  const far = { ...footer.toc, offset: blob.length };
  const wrong = Buffer.concat([blob.subarray(0, footerAt), zstdFooter(far)]);
  t.match((await verifyBytes(wrong)).texts.join(), /points out of it/);
  t.match((await verifyBytes(Buffer.alloc(100))).texts.join(), /no zstd:chunked footer/);
  const other = 'io.containers.zstd-chunked.manifest-checksum';
  const said = (more: Record<string, string>): Promise<string> =>
    verifyBytes(blob, { annotations: { ...annotations, ...more } }).then(({ texts }) => texts.join());
  t.match(await said({ [other]: `sha256:${'0'.repeat(64)}` }), /two checksums/);
  t.match(await said({ 'io.containers.zstd-chunked.manifest-position': '1:2:3:1' }), /two positions/);
  const split = 'io.github.containers.zstd-chunked.tarsplit-position';
  t.match(await said({ [split]: '1:2:3' }), /position of the tar-split is not where it is|tar-split/);
  t.match(await said({ [split]: 'x' }), /not like 4096:100:200/);
});
