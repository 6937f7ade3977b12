import { digestOf } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { Metainfo } from '@sepia/metainfo/metainfo';
import t from 'tap';
import { HOLDERS_MS } from '../../../src/deadlines.ts';
import { Followed, sizeOf } from '../../../src/metainfo/core/followed.ts';

const BELIEF_MS = 10_000;
const ASKED = { wantsAll: true, nowMs: 0 };

const nameOf = (blob: string): BlobName => ({
  digest: digestOf(Buffer.from(blob)),
  upstream: 'local',
  repository: parseRepositoryName('a'),
});
const finalOf = ({ digest }: BlobName): Metainfo => Metainfo.final(digest, 3 * 2 ** 20, Buffer.alloc(3 * 32));

/** Room for so many blobs. */
function make(blobs = 100): Followed {
  const each = sizeOf({ metainfo: finalOf(nameOf('x')), originIds: [] });
  return new Followed({ budgetBytes: blobs * each, beliefMs: () => BELIEF_MS });
}

t.test('holders vouch each in its turn, and are looked for again not all at once', async (t) => {
  const followed = make();
  const never = (): boolean => false;
  const names = Array.from({ length: 100 }, (_, at) => nameOf(`blob ${at}`));
  for (const name of names) {
    const located = { metainfo: finalOf(name), originIds: ['a', 'b', 'c'] };
    followed.found(name, located, followed.lookUp(0), ASKED);
  }
  const turns = Array.from({ length: 6 }, () => followed.voucher(names[0]!, 0, never)?.originId);
  t.same(turns, ['b', 'c', 'a', 'b', 'c', 'a']);
  t.equal(
    followed.voucher(names[0]!, 0, (id) => id === 'c'),
    undefined,
    'one of them is a suspect',
  );
  const sound = (nowMs: number): number =>
    names.filter((name) => followed.voucher(name, nowMs, never) !== undefined).length;
  t.same([sound(HOLDERS_MS / 2), sound(HOLDERS_MS)], [100, 0]);
  const inTheMiddle = sound(HOLDERS_MS * 0.75);
  t.ok(inTheMiddle > 45 && inTheMiddle < 55, `${inTheMiddle}`);
});

t.test('what was let go of while its holder vouched for it is known again', async (t) => {
  const followed = make(2);
  const find = (blob: string): void => {
    const located = { metainfo: finalOf(nameOf(blob)), originIds: ['a'] };
    followed.found(nameOf(blob), located, followed.lookUp(0), ASKED);
  };
  find('x');
  const voucher = followed.voucher(nameOf('x'), 0, () => false)!;
  find('y');
  find('z');
  t.equal(followed.known(nameOf('x')), undefined);
  const { entry } = followed.vouched(nameOf('x'), voucher, voucher.entry.metainfo, followed.lookUp(5));
  t.equal(entry, voucher.entry);
  t.equal(followed.believed(nameOf('x'), BELIEF_MS), entry, 'from the look-up on');
});

t.test('a blob that no origin is named for has none that vouches', async (t) => {
  const followed = make();
  followed.found(nameOf('x'), { metainfo: finalOf(nameOf('x')), originIds: [] }, followed.lookUp(0), ASKED);
  t.equal(
    followed.voucher(nameOf('x'), 0, () => false),
    undefined,
  );
});
