import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import { askMember, askOwners, isSameEpoch, MAX_TRIES } from '../../src/records/ask-owners.ts';

const IDS = ['a', 'b', 'c'];
const sender = (id: string) => ({ id, generation: 1, known: {} });
const lost = ({ epoch }: { readonly epoch: number }) => ({ message: 'too few', detail: { epoch } });

/** Origin `a` as it sees itself, `suspects` and the ring; `epochs`: those that hold after each look for news. */
function origin(epochs: readonly number[] = [], suspects: readonly string[] = []) {
  const left = [...epochs];
  const members = {
    selfId: 'a',
    epoch: 0,
    isSuspect: (id: string) => suspects.includes(id),
    news: async () => {
      members.epoch = left.shift() ?? members.epoch;
    },
  };
  const standing = {
    sender: sender('a'),
    within: async <T>(epoch: number, work: () => Promise<T>): Promise<T> => {
      if (epoch < members.epoch) throw new CodedError('EPOCH_OUTDATED');
      return await work();
    },
  };
  return { members, standing, owners: () => ({ epoch: members.epoch, sets: [IDS] }) };
}

t.test('this origin answers from its own records, the others by calls that carry the epoch', async (t) => {
  const { owners, ...deps } = origin();
  const asked: [string, number][] = [];
  const answers = await askOwners(deps, {
    owners,
    own: async () => 'own',
    other: async (id, { epoch, signal }) => {
      t.equal(signal, undefined, 'no answer is cut off: that would cost the connection');
      asked.push([id, epoch]);
      return { sender: sender(id), answer: id };
    },
    isEnough: (ids) => ids.length === 3,
    lost,
  });
  t.same(answers, ['own', 'b', 'c']);
  t.same(asked, [
    ['b', 0],
    ['c', 0],
  ]);
  const outdated = askMember(
    { ...deps, members: { ...deps.members, epoch: 1 }, standing: origin([1]).standing },
    'a',
    { epoch: -1 },
    { own: async () => 'own', other: async (id) => ({ sender: sender(id), answer: id }) },
  );
  await t.rejects(outdated, { code: 'EPOCH_OUTDATED' }, 'nothing is said of a membership that is over');
});

t.test('asks again, by the new membership, where too few answered because the ring changed', async (t) => {
  const { owners, ...deps } = origin([1]);
  const other = async (id: string, { epoch }: { readonly epoch: number }) => {
    if (epoch === 0) throw new CodedError('EPOCH_OUTDATED');
    return { sender: sender(id), answer: `${id}${epoch}` };
  };
  const answers = await askOwners(deps, { owners, own: async () => 'own', other, lost });
  t.ok(
    answers.every((one) => one === 'own' || one.endsWith('1')),
    String(answers),
  );
});

t.test('too few answers of a ring that stands, or never does, are a lost quorum', async (t) => {
  const silent = async (): Promise<never> => {
    throw new CodedError('PEER_HTTP');
  };
  for (const [epochs, tries] of [
    [[], 2],
    [Array.from({ length: 50 }, (_, at) => at + 1), MAX_TRIES],
  ] as const) {
    const { owners, ...deps } = origin(epochs);
    let asked = 0;
    const question = {
      owners: () => {
        asked += 1;
        return owners();
      },
      own: async () => 'own',
      other: silent,
      lost,
    };
    await t.rejects(askOwners(deps, question), { code: 'QUORUM_LOST', message: 'too few' });
    t.equal(asked, tries);
  }
});

t.test(
  'owners that were silent are asked once more, with patience; who refuses, or was silent before, is not',
  async (t) => {
    const { owners, ...deps } = origin([], ['c']);
    const asked: (number | undefined)[] = [];
    const busy = async (id: string, { headersTimeoutMs }: { readonly headersTimeoutMs?: number }) => {
      if (id === 'b') asked.push(headersTimeoutMs);
      if (id === 'c' || headersTimeoutMs === undefined) throw new CodedError('PEER_HTTP');
      return { sender: sender(id), answer: id };
    };
    t.same(await askOwners(deps, { owners, own: async () => 'own', other: busy, lost }), ['own', 'b']);
    t.same(asked, [undefined, 3_200]);
    let refusals = 0;
    const refuse = async (): Promise<never> => {
      refusals += 1;
      throw new CodedError('RECORDS_PENDING');
    };
    const refused = askOwners(deps, { owners, own: async () => 'own', other: refuse, lost });
    await t.rejects(refused, { code: 'QUORUM_LOST' });
    t.equal(refusals, 2);
    const { owners: _, ...gone } = origin([], ['b', 'c']);
    const lostAtOnce = askOwners(gone, { owners, own: async () => 'own', other: busy, lost });
    await t.rejects(lostAtOnce, { code: 'QUORUM_LOST' });
    t.same(asked, [undefined, 3_200, undefined]);
  },
);

t.test('answers that settle it need no quorum', async (t) => {
  const { owners, ...deps } = origin();
  const question = {
    owners,
    own: async () => true,
    other: async (): Promise<never> => {
      throw new CodedError('PEER_HTTP');
    },
    settles: (found: readonly boolean[]) => found.includes(true),
    lost,
  };
  t.same(await askOwners(deps, question), [true]);
  await t.rejects(askOwners(deps, { ...question, own: async () => false }), { code: 'QUORUM_LOST' });
});

t.test('news that are on the way are waited for before the epoch is compared', async (t) => {
  t.notOk(await isSameEpoch(origin([1]).members, 0));
  t.ok(await isSameEpoch(origin().members, 0));
});
