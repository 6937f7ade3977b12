import { digestOf } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { UploadQuota } from '../../src/blobs/upload-quota.ts';
import type { Wanted } from '../../src/records/core/quota.ts';

const NAME = { upstream: 'up', repository: parseRepositoryName('team/app') };

/** An owner that notes what it holds, once it may. */
function owner() {
  const gate = Promise.withResolvers<void>();
  const held = new Map<string, number | undefined>();
  const quotas = {
    limitsOf: () => ({ bytes: 100 }),
    hold: async (_name: unknown, { id, sizeBytes }: Wanted): Promise<void> => {
      await gate.promise;
      held.set(id, sizeBytes);
    },
    release: (_name: unknown, id: string): void => void held.delete(id),
  };
  return { quotas, held, open: gate.resolve };
}

const ASKS: readonly (readonly [string, (quota: UploadQuota) => Promise<void>])[] = [
  ['its next bytes', async (quota) => await quota.reach(7)],
  ['a body of a known length', async (quota) => await quota.hold(7)],
  ['its blob', async (quota) => await quota.settle(digestOf(Buffer.from('blob')), 7)],
];

for (const [what, ask] of ASKS)
  t.test(`an upload that ends while room for ${what} is asked for holds none`, async (t) => {
    const { quotas, held, open } = owner();
    const quota = new UploadQuota({ quotas, nowMs: () => 0 }, NAME, 'upload-1');
    const asked = ask(quota);
    quota.release();
    open();
    await asked;
    t.same([...held], []);
  });

t.test('room is asked for once for all bytes that it was asked for', async (t) => {
  const { quotas, held, open } = owner();
  open();
  let asks = 0;
  const hold = async (name: unknown, wanted: Wanted): Promise<void> => {
    asks += 1;
    await quotas.hold(name, wanted);
  };
  const quota = new UploadQuota({ quotas: { ...quotas, hold }, nowMs: () => 0 }, NAME, 'upload-1');
  await quota.hold(7);
  for (const bytes of [1, 6, 7]) await quota.reach(bytes);
  t.same([asks, ...held.values()], [1, 7]);
  await quota.reach(8);
  t.equal(asks, 2);
  const most = held.get('upload-1')!;
  t.ok(most > 8, 'and for more than came');
  await quota.reach(most);
  t.equal(asks, 2);
});

t.test('an upload holds room until it ends', async (t) => {
  const { quotas, held, open } = owner();
  open();
  const quota = new UploadQuota({ quotas, nowMs: () => 0 }, NAME, 'upload-1');
  await quota.hold(7);
  t.same([...held], [['upload-1', 7]]);
  quota.release();
  t.same([...held], []);
});
