import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { Replicator } from '../../src/blobs/replicator.ts';

const DIGEST = digestOf(Buffer.from('staged'));
const NAME = { digest: DIGEST, upstream: 'local', repository: 'team/app' };

/** An origin that owns nothing, and what it keeps and owes; `look` runs while it looks whether a copy may go. */
function world() {
  const made = {
    owed: new Set<string>(),
    isHere: true,
    removals: 0,
    look: async (): Promise<void> => undefined,
    remove: async (): Promise<void> => undefined,
  };
  const go = async (stays: () => boolean): Promise<number> => {
    await made.remove();
    made.removals += 1;
    if (stays()) return 0;
    made.isHere = false;
    return 1;
  };
  const deps = {
    members: { selfId: 'o4', epoch: 1, placement: () => ({ owners: ['o1', 'o2', 'o3'] }) },
    hints: {
      owes: async () => {
        const isOwed = made.owed.size > 0;
        await made.look();
        return isOwed;
      },
      add: async (...hints: { target: string }[]) => {
        for (const { target } of hints) made.owed.add(target);
      },
    },
    store: {
      delete: async () => (await go(() => false)) > 0,
      deleteUnless: async (_digest: string, stays: () => boolean) => await go(stays),
    },
    log: silentLogger(),
  };
  const replicator = new Replicator(deps as unknown as ConstructorParameters<typeof Replicator>[0], {
    stragglerMs: 1_000,
  });
  return { replicator, made };
}

t.test('what was kept for others goes when nobody needs it here any more', async (t) => {
  const { replicator, made } = world();
  await replicator.hold(DIGEST, async () => undefined);
  await until(() => !made.isHere, 'it is gone');
  t.equal(made.removals, 1);
});

t.test('what is needed again while it is on its way out stays', async (t) => {
  for (const step of ['remove', 'look'] as const) {
    const { replicator, made } = world();
    let end = (): void => undefined;
    const needed = new Promise<void>((resolve) => {
      end = resolve;
    });
    let again: Promise<void> | undefined;
    made[step] = async () => {
      again ??= replicator.hold(DIGEST, async () => await needed);
    };
    await replicator.hold(DIGEST, async () => undefined);
    await until(() => made.removals === 1, 'it was to go');
    t.ok(made.isHere, step);
    made.owed.add('o1');
    end();
    await again;
    t.ok(made.isHere);
  }
});

t.test(
  'a stand-in keeps a copy that comes while an earlier one is on its way out, and owes it',
  async (t) => {
    for (const step of ['remove', 'look'] as const) {
      const { replicator, made } = world();
      made[step] = async () => {
        made[step] = async () => undefined;
        await replicator.standIn(NAME, async () => undefined);
      };
      await replicator.hold(DIGEST, async () => undefined);
      await until(() => made.owed.size === 3, 'it owes a copy to each owner');
      await until(() => made.removals === 1, 'the earlier one was to go');
      t.ok(made.isHere, step);
    }
  },
);

t.test('a copy that is not taken is not owed', async (t) => {
  const { replicator, made } = world();
  const refused = async (): Promise<void> => {
    throw new Error('no room');
  };
  await t.rejects(replicator.standIn(NAME, refused), /no room/);
  t.equal(made.owed.size, 0);
});
