import { silentLogger } from '@sepia/base/log';
import type { Member } from '@sepia/cluster/document';
import { beginChange, shardOf } from '@sepia/cluster/membership';
import t from 'tap';
import { DoneMoves } from '../../src/ring/done-moves.ts';
import { Move } from '../../src/ring/move.ts';

interface Hint {
  readonly digest: string;
  readonly target: string;
}

function member(id: string): Member {
  return { id, role: 'origin', urls: [`http://${id}.example`], peers: [], weight: 1, state: 'active' };
}

/** `o1` of two, to which `o3` is added; `onPull` runs when `o2` was read. */
function world(given: { onPull?: (pulls: number) => void; hints?: () => Hint[] } = {}) {
  const membership = beginChange(
    { v: 1, epoch: 0, origins: ['o1', 'o2'].map(member) },
    { action: 'add', members: [member('o3')] },
  );
  const made = { pulls: 0, generation: 1 };
  const move = new Move({
    members: {
      selfId: 'o1',
      shard: (key: string) => shardOf(key, membership),
      json: async () => ({ epoch: 1, isSettled: true, hasLed: 1, generation: made.generation }),
    } as never,
    records: {
      registers: { keys: async function* () {} },
      blobSet: { list: async function* () {} },
    } as never,
    pull: {
      differing: async () => new Set(),
      pull: async () => {
        made.pulls += 1;
        given.onPull?.(made.pulls);
        return { unsettled: [], records: 0, blobs: 0 };
      },
    } as never,
    tags: { settle: async () => undefined },
    index: { wanted: 0 } as never,
    hints: { all: async () => given.hints?.() ?? [] } as never,
    copies: { add: async () => ({ owed: 0, lacking: [] }) },
    moves: new DoneMoves(),
    log: silentLogger(),
  });
  const run = async (): Promise<void> => await move.run(membership, new AbortController().signal);
  return { move, made, run };
}

t.test('what was read counts only if it came from one folder', async (t) => {
  const { move, made, run } = world({
    onPull: (pulls) => {
      if (pulls === 1) made.generation = 2;
    },
  });
  await t.rejects(run(), { code: 'RECORDS_PENDING' });
  t.notOk(move.isDone(1));
  await run();
  t.equal(made.pulls, 2, 'it is read again');
  t.ok(move.isDone(1));
});

t.test(
  'it waits for the copies that are owed when it comes to them, not for those of later pushes',
  async (t) => {
    let looks = 0;
    const { move, run } = world({
      hints: () => {
        looks += 1;
        const owed = looks <= 3 ? [{ digest: 'first', target: 'o3' }] : [];
        return [...owed, { digest: `push ${looks}`, target: 'o3' }];
      },
    });
    await run();
    t.equal(looks, 4);
    t.ok(move.isDone(1));
  },
);
