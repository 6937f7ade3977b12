import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import t from 'tap';
import { smallBlobs } from '../../src/gc/small-blobs.ts';

const BYTES = Buffer.from('{"parts":[]}');
const NAME: BlobName = {
  upstream: 'local',
  repository: parseRepositoryName('app'),
  digest: digestOf(BYTES),
};

/** Sizes that the link, this origin, and another one say; undefined: none. */
function bytesOf(sizes: { link?: number; here?: number; there?: number; isLinked?: boolean }) {
  const read: number[] = [];
  const ask = smallBlobs({
    links: { find: async () => (sizes.isLinked === false ? undefined : { ...NAME, sizeBytes: sizes.link }) },
    store: {
      stat: async () => (sizes.here === undefined ? undefined : ({ sizeBytes: sizes.here } as never)),
    },
    blobs: { sizeElsewhere: async () => sizes.there },
    reader: {
      open: (_name, { start, end }) => {
        read.push(start, end);
        return Readable.from([BYTES.subarray(start, 5), BYTES.subarray(5, end)], { objectMode: false });
      },
    },
  });
  return { ask: async () => await ask(NAME), read };
}

t.test('a blob that may be a manifest is read, whoever says its size', async (t) => {
  const size = BYTES.length;
  for (const sizes of [{ link: size }, { here: size }, { there: size }])
    t.same(await bytesOf(sizes).ask(), BYTES, JSON.stringify(sizes));
});

t.test('what is no manifest by its size is not read', async (t) => {
  for (const sizes of [
    { link: 0 },
    { link: MAX_MANIFEST_BYTES + 1, here: 1 },
    { here: MAX_MANIFEST_BYTES + 1 },
    {},
    { isLinked: false, here: BYTES.length },
  ]) {
    const { ask, read } = bytesOf(sizes);
    t.equal(await ask(), undefined, JSON.stringify(sizes));
    t.same(read, []);
  }
});
