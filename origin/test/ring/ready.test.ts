import { CodedError } from '@sepia/base/errors';
import type { Member } from '@sepia/cluster/document';
import { beginChange, type Membership } from '@sepia/cluster/membership';
import t from 'tap';
import { checkReady } from '../../src/ring/ready.ts';

/** What an added origin is: never seen, or seen before, with its records or without; or it does not answer. */
type Joiner = 'new' | 'lost' | 'kept' | 'silent';

function member(id: string): Member {
  return { id, role: 'origin', urls: [`http://${id}.example`], peers: [], weight: 1, state: 'active' };
}

async function check(joiners: Readonly<Record<string, Joiner>>): Promise<void> {
  const current: Membership = { v: 1, epoch: 2, origins: ['o1', 'o2', 'o3'].map(member) };
  const next = beginChange(current, { action: 'add', members: Object.keys(joiners).map(member) });
  const known = Object.fromEntries(
    Object.entries(joiners).flatMap(([id, one]) => (one === 'new' ? [] : [[id, 7]])),
  );
  const deps = {
    client: {
      json: async ({ to }: { to: string }) => {
        if (joiners[to] === 'silent') throw new CodedError('PEER_HTTP');
        return { settled: false, kept: joiners[to] === 'kept' };
      },
    },
    members: {
      selfId: 'o1',
      // One of them alone heard of those that come back.
      counted: async (id: string) => ({ sender: { id, generation: 1, known: id === 'o3' ? known : {} } }),
    },
    standing: { sender: { id: 'o1', generation: 1, known: {} } },
  };
  await checkReady(deps as never, { current, next }, new AbortController().signal);
}

t.test('several that come back without their records are refused, and named', async (t) => {
  await t.rejects(check({ o4: 'lost', o5: 'new', o6: 'lost' }), {
    code: 'REQUEST_INVALID',
    message: /^ring: o4 and o6 were in the ring before and lost their records; add them one by one/,
  });
});

t.test('several new ones, one that lost its records, several that kept them are not', async (t) => {
  for (const joiners of [
    { o4: 'new', o5: 'new' },
    { o4: 'lost', o5: 'new' },
    { o4: 'lost' },
    { o4: 'kept', o5: 'kept', o6: 'lost' },
  ] as const)
    await t.resolves(check(joiners), JSON.stringify(joiners));
});

t.test('one that does not answer is to be started first', async (t) => {
  await t.rejects(check({ o4: 'new', o5: 'silent' }), {
    code: 'REQUEST_INVALID',
    message: /o5 does not answer at http:\/\/o5\.example; start it first/,
  });
});
