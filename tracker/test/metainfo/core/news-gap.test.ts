import { digestOf } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import t from 'tap';
import { Followed } from '../../../src/metainfo/core/followed.ts';

const SIZE_BYTES = 1;
const digest = digestOf(Buffer.from('x'));
const NAME: BlobName = { digest, upstream: 'local', repository: parseRepositoryName('a') };
const OPEN = Metainfo.open(digest, SIZE_BYTES, firstAttempt(digest));
const WHOLE = Metainfo.final(digest, SIZE_BYTES, Buffer.alloc(32, 'x'));

t.test('news of a blob that is fetched whole are told later where many wait, its end is not', async (t) => {
  const gapOf = (metainfo: Metainfo, wantsAll: boolean): number => {
    const followed = new Followed({ budgetBytes: 10_000, beliefMs: () => 1 });
    const located = { metainfo, originIds: ['a'] };
    const { entry } = followed.found(NAME, located, followed.lookUp(0), { wantsAll, nowMs: 0 });
    const ends = Array.from({ length: 132 }, () => followed.wait(entry));
    const gapMs = followed.newsGapMs(entry);
    for (const end of ends) end();
    t.equal(followed.newsGapMs(entry), 0, 'nobody waits');
    return gapMs;
  };
  t.same([gapOf(OPEN, true), gapOf(OPEN, false), gapOf(WHOLE, true)], [200, 0, 0]);
});
