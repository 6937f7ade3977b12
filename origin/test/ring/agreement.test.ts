import t from 'tap';
import { Agreement } from '../../src/ring/agreement.ts';

/** An origin at epoch 4, whose acceptor says what it was asked. */
function world() {
  const asked: string[] = [];
  const agreement = new Agreement({
    cluster: { epoch: 4 },
    members: {
      selfId: 'o1',
      counted: async () => t.fail('asks nobody') as never,
      isSuspect: () => false,
    },
    standing: { requireAll: () => undefined, sender: { id: 'o1', generation: 1, known: {} } },
    acceptors: {
      handle: async ({ key }: { key: string }) => {
        asked.push(key);
        return { type: 'accepted' };
      },
    } as never,
    nowMs: () => 0,
  });
  return { agreement, asked };
}

t.test('an origin votes on the membership after its own, on no other', async (t) => {
  const { agreement, asked } = world();
  const ballot = { counter: 1, proposer: 'p' };
  t.same(await agreement.handle({ type: 'prepare', key: '5', ballot }), { type: 'accepted' });
  t.same(await agreement.handle({ type: 'prepare', key: '4', ballot }), { type: 'outdated', epoch: 4 });
  await t.rejects(agreement.handle({ type: 'prepare', key: '6', ballot }), {
    code: 'RECORDS_PENDING',
    message: /membership of epoch 5 is not known here yet/,
  });
  await t.rejects(agreement.handle({ type: 'prepare', key: 'tag', ballot }), { code: 'REQUEST_INVALID' });
  t.same(asked, ['5']);
});
