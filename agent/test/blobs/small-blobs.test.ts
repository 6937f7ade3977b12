import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { BlobAttrs } from '@sepia/store/sidecar';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { DiskHold } from '../../src/blobs/core/disk-hold.ts';
import { SmallBlobs } from '../../src/blobs/small-blobs.ts';

const NEVER = new AbortController().signal;
const BYTES = Buffer.from('a small blob');
const NAME: BlobName = {
  upstream: 'up',
  repository: parseRepositoryName('team/app'),
  digest: digestOf(BYTES),
};

/** Small blobs of an origin that has one of them, and a disk that takes it when it is said to. */
function made() {
  const disk = new DiskHold('/data', 5_000);
  const write = Promise.withResolvers<BlobAttrs>();
  const settled: string[] = [];
  const begun: string[] = [];
  const small = new SmallBlobs({
    store: {
      putBytes: async (digest) => {
        begun.push(digest);
        return await write.promise;
      },
    },
    origins: { small: async () => BYTES },
    disk,
    log: silentLogger(),
    nowMs: () => 0,
    onBytes: () => undefined,
    onSettled: (digest) => settled.push(digest),
  });
  return { small, disk, write, settled, begun };
}

t.test('a small blob is there before its file is, and in memory until then', async (t) => {
  const { small, disk, write, settled, begun } = made();
  disk.refused(new CodedError('DISK_FULL'), 0);
  const blob = await small.fetch(NAME, [], NEVER);
  t.same([begun, settled], [[], []], 'what it came for goes first');
  t.equal(small.of(NAME.digest), blob);
  t.equal(small.size, 1);
  const both = Promise.all([small.settled(NAME.digest), small.idle()]);
  write.resolve({ class: 'cached', provenance: [], writtenBack: true });
  await both;
  t.same([begun, settled], [[NAME.digest], [NAME.digest]]);
  t.equal(small.of(NAME.digest), undefined);
  t.equal(small.size, 0);
  t.same(disk.warnings, [], 'the disk takes blobs');
  await small.settled(NAME.digest);
});

t.test('a small blob that the disk does not take was served all the same', async (t) => {
  const { small, disk, write, settled, begun } = made();
  await small.fetch(NAME, [], NEVER);
  await until(() => begun.length === 1, 'its file is begun');
  write.reject(new CodedError('DISK_FULL'));
  await small.idle();
  t.same(settled, [NAME.digest]);
  t.equal(small.of(NAME.digest), undefined);
  t.equal(disk.warnings.length, 1);
});
