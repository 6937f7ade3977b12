import { CodedError } from '@sepia/base/errors';
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

interface Given {
  /** Runs when `o2` was read. */
  readonly onPull?: (pulls: number) => void;
  readonly hints?: () => Hint[];
  /** Registers that are here. */
  readonly keys?: readonly string[];
  readonly settle?: (key: string) => Promise<void>;
  /** What another origin says; it may throw. */
  readonly status?: (id: string) => object;
}

/** `o1` of two, to which `o3` is added. */
function world(given: Given = {}) {
  const membership = beginChange(
    { v: 1, epoch: 0, origins: ['o1', 'o2'].map(member) },
    { action: 'add', members: [member('o3')] },
  );
  const made = { pulls: 0, generation: 1 };
  const move = new Move({
    members: {
      selfId: 'o1',
      shard: (key: string) => shardOf(key, membership),
      json: async (id: string) => ({
        ...{ epoch: 1, isSettled: true, hasLed: 1, generation: made.generation },
        ...given.status?.(id),
      }),
    } as never,
    records: {
      registers: {
        keys: async function* () {
          yield* given.keys ?? [];
        },
      },
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
    tags: { settle: async (key) => await given.settle?.(key) },
    index: { wanted: 0 } as never,
    hints: { all: async () => given.hints?.() ?? [] } as never,
    copies: { add: async () => ({ owed: 0, lacking: [] }) },
    moves: new DoneMoves(),
    log: silentLogger(),
  });
  const run = async (): Promise<void> => await move.run(membership, new AbortController().signal);
  return { move, made, run };
}

/** So many keys of registers whose first old owner is `leader`. */
function keysLedBy(leader: string, count: number): string[] {
  const before = { v: 1, epoch: 0, origins: ['o1', 'o2'].map(member) } as const;
  const keys: string[] = [];
  for (let n = 0; keys.length < count; n++) {
    // A register that is no tag is placed by its own key.
    const key = `lane\0${n}`;
    if (shardOf(key, before).sets[0]![0] === leader) keys.push(key);
  }
  return keys;
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

const SILENT = new CodedError('QUORUM_LOST');

t.test('registers that were not settled are settled again, and they alone', async (t) => {
  const keys = keysLedBy('o1', 20);
  const settled: string[] = [];
  let isSilent = true;
  const { move, run } = world({
    keys: [...keysLedBy('o2', 5), ...keys],
    settle: async (key) => {
      settled.push(key);
      if (isSilent && keys.indexOf(key) % 9 === 4) throw SILENT;
    },
  });
  await t.rejects(run(), SILENT);
  t.same(settled, keys, 'one stops none of the others');
  t.equal(move.registers, 18);
  t.equal(move.hasLed, -1, 'nobody is told that they are settled');
  settled.length = 0;
  isSilent = false;
  await run();
  t.same(settled, [keys[4], keys[13]]);
  t.equal(move.registers, 20);
  t.equal(move.hasLed, 1);
  t.ok(move.isDone(1));
});

t.test('where more fail than are remembered it ends, and all are settled the next time', async (t) => {
  const keys = keysLedBy('o1', 1_100);
  let tried = 0;
  let isSilent = true;
  const { move, run } = world({
    keys,
    settle: async () => {
      tried += 1;
      if (isSilent) throw SILENT;
    },
  });
  await t.rejects(run(), SILENT);
  t.ok(tried < keys.length, `${tried} were tried`);
  tried = 0;
  isSilent = false;
  await run();
  t.equal(tried, keys.length);
  t.equal(move.registers, keys.length);
});

t.test(
  'registers of an old owner that went away are settled in its place, those that fail again',
  async (t) => {
    const keys = keysLedBy('o2', 3);
    const settled: string[] = [];
    let isSilent = true;
    let looks = 0;
    const { move, run } = world({
      keys,
      settle: async (key) => {
        settled.push(key);
        if (isSilent && key === keys[1]) throw SILENT;
      },
      status: () => {
        if (move.doing !== 'waits for the registers of o2') return {};
        looks += 1;
        if (looks > 1) throw new CodedError('BACKEND_DOWN');
        return { hasLed: 0 };
      },
    });
    await t.rejects(run(), SILENT);
    t.equal(looks, 2, 'as long as it answers, it is waited for');
    t.same(settled, keys);
    t.equal(move.hasLed, 1, 'its own are');
    settled.length = 0;
    isSilent = false;
    await run();
    t.same(settled, [keys[1]]);
    t.equal(move.registers, 3);
    t.ok(move.isDone(1));
  },
);
