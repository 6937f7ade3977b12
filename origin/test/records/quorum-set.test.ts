import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import { acknowledged, askQuorum } from '../../src/records/quorum-set.ts';

const IDS = ['a', 'b', 'c'];

t.test('silence of some is no hindrance, of most it is', async (t) => {
  const ask = (dead: readonly string[]) => async (id: string) => {
    if (dead.includes(id)) throw new CodedError('PEER_HTTP');
    return id;
  };
  t.same(await askQuorum(IDS, 2, ask(['b'])), { answers: ['a', 'c'], isEnough: true });
  t.same(await askQuorum(IDS, 2, ask(['b', 'c'])), { answers: ['a'], isEnough: false });
  const write = (dead: readonly string[]) => async (id: string) => {
    if (dead.includes(id)) throw new CodedError('PEER_HTTP');
  };
  await acknowledged(IDS, 2, write(['b']));
  await t.rejects(acknowledged(IDS, 2, write(['b', 'c'])), { code: 'QUORUM_LOST' });
});

t.test('a bug is thrown, it is no silent owner', async (t) => {
  const wrong = async (id: string): Promise<never> => {
    throw new TypeError(`wrong code for ${id}`);
  };
  await t.rejects(askQuorum(IDS, 2, wrong), TypeError);
  await t.rejects(
    askQuorum(
      IDS,
      4,
      async () => 1,
      () => {
        throw new RangeError('wrong rule');
      },
    ),
    RangeError,
  );
  await t.rejects(acknowledged(IDS, 2, wrong), TypeError);
});
