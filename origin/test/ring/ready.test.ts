import { CodedError } from '@sepia/base/errors';
import type { RingStatus } from '@sepia/cluster/api/ring';
import type { Member } from '@sepia/cluster/document';
import { beginChange, type Membership, type RingChange } from '@sepia/cluster/membership';
import type { RingAnswer } from '@sepia/cluster/ring-messages';
import t from 'tap';
import { checkReady } from '../../src/ring/ready.ts';

/** What an added origin is: never seen, or seen before, with its records or without; or it does not answer. */
type Joiner = 'new' | 'lost' | 'kept' | 'silent';

function member(id: string): Member {
  return { id, role: 'origin', urls: [`http://${id}.example`], peers: [], weight: 1, state: 'active' };
}

function ring(epoch: number, ids: readonly string[]): Membership {
  return { v: 1, epoch, origins: ids.map(member) };
}

interface Given {
  /** What single ones say of the ring, instead of that they follow this one; or that they are too old to say. */
  readonly rings?: Readonly<Record<string, RingAnswer | 'old'>>;
  readonly change?: RingChange;
  readonly current?: Membership;
  /** What single ones say of what they keep and owe; nothing unless given. */
  readonly keeps?: Readonly<Record<string, Pick<RingStatus, 'leftovers' | 'copiesOwed'>>>;
}

async function check(joiners: Readonly<Record<string, Joiner>>, given: Given = {}): Promise<void> {
  const current = given.current ?? ring(2, ['o1', 'o2', 'o3']);
  const change = given.change ?? { action: 'add', members: Object.keys(joiners).map(member) };
  const next = beginChange(current, change);
  const known = Object.fromEntries(
    Object.entries(joiners).flatMap(([id, one]) => (one === 'new' ? [] : [[id, 7]])),
  );
  const proxy = { ...member('p1'), role: 'proxy' };
  const deps = {
    cluster: { document: { members: [...current.origins, proxy] } },
    client: {
      json: async ({ to, path }: { to: string; path: string }) => {
        if (joiners[to] === 'silent') throw new CodedError('PEER_HTTP');
        const said = given.rings?.[to] ?? { founded: true, membership: current };
        if (said === 'old') throw new CodedError('ROUTE_UNKNOWN');
        if (path === '/v1/ring') return said;
        if (path === '/v1/ring/status') return { id: to, leftovers: 0, copiesOwed: 0, ...given.keeps?.[to] };
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

t.test('one of another ring is not added, whatever its epoch', async (t) => {
  const answer = (membership: Membership, founded = true): RingAnswer => ({ founded, membership });
  for (const foreign of [ring(4, ['o9']), ring(4, ['o8']), ring(0, ['o9']), ring(2, ['o8']), ring(2, ['o9'])])
    await t.rejects(
      check({ o4: 'new', o9: 'kept' }, { rings: { o9: answer(foreign) } }),
      { code: 'REQUEST_INVALID', message: /^ring: o9 belongs to another ring .*; empty its folder/ },
      JSON.stringify(foreign),
    );
  const moving = beginChange(ring(0, ['o9', 'o8']), { action: 'drain', ids: ['o9'] });
  await t.rejects(check({ o9: 'kept' }, { rings: { o9: answer(moving) } }), { message: /another ring/ });
  for (const own of [answer(ring(0, ['o1', 'o2', 'o3'])), answer(ring(0, ['o9']), false)])
    await t.resolves(check({ o9: 'new' }, { rings: { o9: own } }), JSON.stringify(own));
});

t.test(
  'one that was drained in this ring is added again; one that does not know of it yet waits',
  async (t) => {
    const [o1, o2, o3] = ['o1', 'o2', 'o3'].map(member);
    const current: Membership = { v: 1, epoch: 2, origins: [o1!, o2!, { ...o3!, state: 'draining' }] };
    await t.resolves(check({ o3: 'kept' }, { current }));
    const before = { o3: { founded: true, membership: ring(0, ['o1', 'o2', 'o3']) } };
    await t.rejects(check({ o3: 'kept' }, { current, rings: before }), {
      message: /if it was in this one before, wait until it knows that it left/,
    });
  },
);

t.test('one of the version before stops every change, by name', async (t) => {
  const message = /^ring: o3 is of another version; all origins must be/;
  for (const action of ['drain', 'add'] as const) {
    const change: RingChange =
      action === 'add' ? { action, members: [member('o4')] } : { action, ids: ['o3'] };
    await t.rejects(
      check({}, { change, rings: { o3: 'old' } }),
      { code: 'REQUEST_INVALID', message },
      action,
    );
  }
  await t.resolves(check({ o3: 'silent' }, { change: { action: 'drain', ids: ['o3'] } }), 'a dead one');
});

t.test('an origin that names other origins at this epoch stops every change, by name', async (t) => {
  const change: RingChange = { action: 'drain', ids: ['o3'] };
  const said = (ids: string[], epoch = 2) => ({ o2: { founded: true, membership: ring(epoch, ids) } });
  await t.rejects(check({}, { change, rings: said(['o1', 'o2', 'o3', 'o4']) }), {
    code: 'REQUEST_INVALID',
    message:
      /^ring: o2 is of another ring: it knows other origins at epoch 2 \(o1 .*, o4 \(weight 1\); here o1 .*, o3 \(weight 1\)\)/,
  });
  await t.resolves(check({}, { change, rings: said(['o3', 'o2', 'o1']) }));
  await t.resolves(check({}, { change, rings: said(['o1', 'o2'], 0) }), 'it gets the newer one');
});

t.test('an address that another member has is refused, by name', async (t) => {
  for (const other of ['o2', 'p1', 'o5'])
    await t.rejects(
      check({}, { change: { action: 'add', members: [{ ...member(other), id: 'o4' }, member('o5')] } }),
      {
        code: 'REQUEST_INVALID',
        message: /^ring: http:\/\/\w\w\.example\/? is the address of \w\w as well as of o[45]$/,
      },
      other,
    );
});

t.test('an address that leads nobody to who joins is refused', async (t) => {
  const wide = { ...member('o4'), peers: ['0.0.0.0:17201'] };
  await t.rejects(check({}, { change: { action: 'add', members: [wide] } }), {
    code: 'REQUEST_INVALID',
    message: /^ring: 0\.0\.0\.0:17201 is where o4 may listen/,
  });
});

t.test(
  'who is taken out keeps nothing that others did not confirm, and owes nothing, if it answers',
  async (t) => {
    const origins = ['o1', 'o2', 'o3', 'o4'].map(member);
    const current = {
      ...ring(2, []),
      origins: origins.map((one) => ({ ...one, state: 'draining' as const })),
    };
    for (const one of current.origins.slice(0, 3)) Object.assign(one, { state: 'active' });
    const change = { action: 'remove', ids: ['o4'] } as const;
    for (const [keeps, why] of [
      [
        { leftovers: 7, copiesOwed: 2 },
        /^ring: o4 cannot be taken out yet: 7 blobs are not confirmed .* owes 2 copies/,
      ],
      [{ leftovers: 0, copiesOwed: 1 }, /owes 1 copies; wait for it, or stop it to give that up/],
      [{ leftovers: undefined, copiesOwed: 0 }, /is being looked through/],
    ] as const)
      await t.rejects(check({}, { current, change, keeps: { o4: keeps as never } }), {
        code: 'CONFLICT',
        message: why,
      });
    await t.resolves(check({}, { current, change }), 'nothing is left');
    await t.resolves(check({ o4: 'silent' }, { current, change }), 'a dead one is given up');
  },
);
