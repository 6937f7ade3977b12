import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { CachedBlobs } from '../../src/blobs/cached-blobs.ts';
import type { ClusterGuide } from '../../src/downloads/guide.ts';

const BYTES = seededBytes(500_000, 'mend');
const DIGEST = digestOf(BYTES);
const none = (): void => undefined;

function named(upstream: string): BlobName {
  return { upstream, repository: parseRepositoryName('team/app'), digest: DIGEST };
}

t.test('a refusal under another name ends no reading of a damaged piece that joined', async (t) => {
  const log = silentLogger();
  const store = await BlobStore.open(
    { files: diskFiles, dir: t.testdir(), log, nowMs: Date.now },
    { durable: false, bootId: 'one' },
  );
  t.teardown(() => store.close());
  const [first, second] = [named('first'), named('second')];
  await store.putBytes(DIGEST, BYTES, { class: 'cached', provenance: [first, second], writtenBack: true });
  const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const refetched: string[] = [];
  const guideOf = ({ upstream }: BlobName): ClusterGuide =>
    ({
      refetch: async () => {
        refetched.push(upstream);
        if (upstream === 'second') return BYTES;
        asked.resolve();
        await answer.promise;
        throw new CodedError('UPSTREAM_DENIED');
      },
    }) as unknown as ClusterGuide;
  const seeds = { touch: none, drop: none } as never;
  const rot = { onRotten: none, onMended: none, onUnmended: none };
  const cached = new CachedBlobs({ store, seeds, guideOf, log, onBytes: none, rot });
  const { signal } = new AbortController();
  const [one, other] = [(await cached.open(first, signal))!, (await cached.open(second, signal))!];
  const refused = one.blob.mend(0, signal);
  await asked.promise;
  const joined = other.blob.mend(0, signal);
  answer.resolve();
  await t.rejects(refused, { code: 'UPSTREAM_DENIED' }, 'the answer to who asked');
  t.ok(Buffer.from(await joined).equals(BYTES));
  t.same(refetched, ['first', 'second']);
  for (const { release } of [one, other]) release();
});
