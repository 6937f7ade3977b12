import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import { SEED } from '@sepia/test-support/seeded';
import t from 'tap';
import { majorityOf } from '../../src/core/majority.ts';
import { parseRegisterReply, parseRegisterRequest } from '../../src/register/acceptor-store.ts';
import {
  acceptorStep,
  agreedState,
  compareBallots,
  EMPTY_ACCEPTOR,
  handedOver,
  NO_BALLOT,
  newestValue,
  type RegisterReply,
  type RegisterRequest,
  repaired,
} from '../../src/register/register.ts';
import { RegisterClient } from '../../src/register/register-client.ts';
import { findAnomaly, RegisterSimulation } from './register-simulation.ts';

const b = (counter: number, proposer = 'p') => ({ counter, proposer });

t.test('an acceptor promises upwards only and accepts what it promised', async (t) => {
  const promised = acceptorStep(EMPTY_ACCEPTOR, { type: 'prepare', key: 'k', ballot: b(2) });
  t.same(promised.reply, { type: 'state', accepted: NO_BALLOT });
  t.same(acceptorStep(promised.next, { type: 'prepare', key: 'k', ballot: b(2) }).reply, {
    type: 'refused',
    promised: b(2),
  });
  t.same(acceptorStep(promised.next, { type: 'accept', key: 'k', ballot: b(1), value: 1 }).reply, {
    type: 'refused',
    promised: b(2),
  });
  const accepted = acceptorStep(promised.next, { type: 'accept', key: 'k', ballot: b(2), value: 1 });
  t.same(accepted.reply, { type: 'accepted' });
  t.same(acceptorStep(accepted.next, { type: 'read', key: 'k' }).reply, {
    type: 'state',
    accepted: b(2),
    value: 1,
  });
  t.ok(compareBallots(b(1, 'z'), b(2, 'a')) < 0);
  t.ok(compareBallots(b(1, 'b'), b(1, 'a')) > 0);
});

t.test('majorities, newest and agreed values', async (t) => {
  t.same([1, 2, 3].map(majorityOf), [1, 2, 2]);
  t.equal(
    newestValue([
      { accepted: b(1), value: 'old' },
      { accepted: b(3), value: 'new' },
      { accepted: NO_BALLOT },
    ]),
    'new',
  );
  const two = (agreeing: readonly unknown[]): boolean => agreeing.length >= 2;
  t.equal(agreedState([{ accepted: b(1) }, { accepted: b(2) }], two), undefined);
  t.match(
    agreedState(
      [
        { accepted: b(1), value: 1 },
        { accepted: b(2), value: 2 },
        { accepted: b(1), value: 1 },
      ],
      two,
    ),
    { value: 1 },
  );
});

t.test('an accept handed over below a promise proves nothing until a round settles it', async (t) => {
  const own = { v: 1, promised: b(1), accepted: NO_BALLOT } as const;
  const heard = handedOver(own, { v: 1, promised: b(9), accepted: b(5), value: 'x' });
  t.same(heard, { v: 1, promised: b(9), accepted: b(5), value: 'x', heard: true });
  t.equal(
    agreedState([heard, { accepted: b(5), value: 'x' }], (all) => all.length >= 2),
    undefined,
  );
  t.equal(newestValue([heard]), 'x', 'a prepare counts it');
  const settled = acceptorStep(heard, { type: 'accept', key: 'k', ballot: b(9), value: 'y' });
  t.same(settled.next, { v: 1, promised: b(9), accepted: b(9), value: 'y' });
  const whole = handedOver(own, { v: 1, promised: b(5), accepted: b(5), value: 'x' });
  t.equal(whole.heard, undefined);
});

t.test('repair keeps to the rule of the acceptor', async (t) => {
  const from = { v: 1, promised: b(5), accepted: b(5), value: 'x' } as const;
  t.same(repaired(EMPTY_ACCEPTOR, from), { next: from, isWhole: true });
  const promised = { v: 1, promised: b(7), accepted: NO_BALLOT } as const;
  t.same(repaired(promised, from), { next: promised, isWhole: false }, 'only a round can settle it');
  t.same(repaired(from, { v: 1, promised: b(9), accepted: b(3) }).next.promised, b(9));
});

t.test('members that share an acceptor bring the same promise', async (t) => {
  const shared = { isShared: true };
  const once = acceptorStep(EMPTY_ACCEPTOR, { type: 'prepare', key: 'k', ballot: b(2) }, shared);
  const twice = acceptorStep(once.next, { type: 'prepare', key: 'k', ballot: b(2) }, shared);
  t.same(twice, once);
  t.equal(acceptorStep(once.next, { type: 'prepare', key: 'k', ballot: b(1) }, shared).reply.type, 'refused');
  t.equal(
    acceptorStep(once.next, { type: 'prepare', key: 'k', ballot: b(2, 'a') }, shared).reply.type,
    'refused',
  );
});

const ROUNDS = 40;
for (const [name, faults, clients] of [
  ['a calm network', { loss: 0, duplication: 0, restart: 0 }, 3],
  ['loss', { loss: 0.15, duplication: 0, restart: 0 }, 3],
  ['duplication and reordering', { loss: 0, duplication: 0.4, restart: 0 }, 4],
  ['restarts', { loss: 0.05, duplication: 0.1, restart: 0.05 }, 3],
  ['everything', { loss: 0.1, duplication: 0.2, restart: 0.03 }, 5],
  ['everything, of one acceptor that all owners share', { loss: 0.1, duplication: 0.2, restart: 0.03 }, 5],
] as const) {
  t.test(`histories are linearizable under ${name}`, async (t) => {
    const isShared = name.endsWith('share');
    let answered = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const seed = SEED * 100_003 + round;
      const simulation = new RegisterSimulation(seed, faults, { isShared });
      const works = Array.from({ length: clients }, (_, index) => {
        const client = String.fromCharCode(97 + index);
        return simulation.work(client, simulation.client(client), 5);
      });
      await simulation.run(Promise.all(works));
      const anomaly = findAnomaly(simulation.history);
      if (anomaly !== undefined) t.fail(`${anomaly} (seed ${seed})`);
      answered += simulation.history.filter(({ list }) => list !== undefined).length;
    }
    const asked = ROUNDS * clients * 5;
    t.ok(answered > asked * 0.9, `${answered} of ${asked} operations answered`);
  });
}

t.test('the checker finds anomalies', async (t) => {
  const op = (client: string, beganAt: number, endedAt: number, list: string[], appended?: string) => ({
    client,
    beganAt,
    endedAt,
    list,
    ...(appended === undefined ? {} : { appended }),
  });
  t.match(findAnomaly([op('a', 0, 1, ['x'], 'x'), op('b', 2, 3, [])]), /after/);
  t.match(findAnomaly([op('a', 0, 1, ['x'], 'x'), op('b', 0, 3, ['y'], 'y')]), /no prefix/);
  t.match(findAnomaly([op('a', 0, 1, ['x'])]), /nowhere/);
  t.equal(findAnomaly([op('a', 0, 5, ['x'], 'x'), op('b', 2, 3, [])]), undefined);
});

function clientOver(
  answer: (member: string, request: RegisterRequest) => Promise<RegisterReply>,
  options = {},
): RegisterClient {
  const deps = { transport: answer, chance: () => 0, nowMs: () => performance.now() };
  return new RegisterClient(deps, {
    proposerId: 'p',
    backoffMs: 1,
    requestTimeoutMs: 100,
    ...options,
  });
}

function acceptors(): (member: string, request: RegisterRequest) => Promise<RegisterReply> {
  const states = new Map<string, typeof EMPTY_ACCEPTOR>();
  return async (member, request) => {
    const { next, reply } = acceptorStep(states.get(member) ?? EMPTY_ACCEPTOR, request);
    states.set(member, next);
    return reply;
  };
}

t.test('one owner of three may be away, two may not', async (t) => {
  const answer = acceptors();
  const away = new Set(['o3']);
  const client = clientOver((member, request) =>
    away.has(member) ? new Promise(() => undefined) : answer(member, request),
  );
  const owners = ['o1', 'o2', 'o3'];
  t.equal(await client.read('k', owners), undefined);
  t.equal(await client.change<number>('k', owners, (current) => (current ?? 0) + 1), 1);
  t.equal(await client.read('k', owners), 1);
  away.add('o2');
  await t.rejects(client.read('k', owners), { code: 'QUORUM_LOST' });
  await t.rejects(
    client.change('k', owners, () => 2),
    { code: 'QUORUM_LOST' },
  );
  await t.rejects(
    client.change('k', [], () => 2),
    { code: 'QUORUM_LOST' },
  );
});

t.test('a refusing function settles what it saw and passes its error on', async (t) => {
  const answer = acceptors();
  const owners = ['o1', 'o2', 'o3'];
  const client = clientOver(answer);
  await answer('o1', {
    type: 'accept',
    key: 'k',
    ballot: b(1, 'other'),
    value: { v: 1, value: 'half', recent: [] },
  });
  await t.rejects(
    client.change('k', ['o1', 'o2'], (current) => {
      throw new Error(`immutable: ${current}`);
    }),
    { message: 'immutable: half' },
  );
  t.equal(await client.read('k', owners), 'half');
});

t.test('a proposer that always loses ends with CONFLICT, an aborted one with its reason', async (t) => {
  const client = clientOver(async () => ({ type: 'refused', promised: b(1e6) }), { deadlineMs: 50 });
  await t.rejects(
    client.change('k', ['o1', 'o2', 'o3'], () => 1),
    { code: 'CONFLICT' },
  );
  const hanging = clientOver(() => new Promise(() => undefined), { requestTimeoutMs: 60_000 });
  const abort = new AbortController();
  const waiting = hanging.read('k', ['o1'], { signal: abort.signal });
  abort.abort(new Error('enough'));
  await t.rejects(waiting, { message: 'enough' });
});

t.test('messages from the network: parsed, or REQUEST_INVALID', async (t) => {
  const request: RegisterRequest = { type: 'accept', key: 'k', ballot: b(1), value: { v: 1 } };
  t.same(parseRegisterRequest({ ...request, more: 1 }), request);
  t.same(parseRegisterReply({ type: 'refused', promised: b(3) }), { type: 'refused', promised: b(3) });
  const shapes = fc.oneof(
    fc.anything(),
    fc.record({
      type: fc.constantFrom('read', 'prepare', 'accept', 'state', 'refused', 'x'),
      key: fc.anything(),
      ballot: fc.anything(),
      accepted: fc.anything(),
    }),
  );
  fc.assert(
    fc.property(shapes, (input) => {
      for (const parse of [parseRegisterRequest, parseRegisterReply]) {
        try {
          parse(input);
        } catch (error) {
          if (!isCoded(error, 'REQUEST_INVALID')) throw error;
        }
      }
    }),
  );
});

t.test('a change with an id is made once, also by a proposer that comes late', async (t) => {
  const answer = acceptors();
  const owners = ['o1', 'o2', 'o3'];
  const [first, second] = [clientOf('a'), clientOf('b')];
  function clientOf(incarnation: string): RegisterClient {
    const deps = { transport: answer, chance: () => 0, nowMs: () => performance.now(), incarnation };
    return new RegisterClient(deps, { proposerId: 'p', backoffMs: 1 });
  }
  const add = (text: string) => (current: string | undefined) => `${current ?? ''}${text}`;
  t.equal(await first.change('k', owners, add('x'), { id: 'push-1' }), 'x');
  t.equal(await second.change('k', owners, add('y'), { id: 'push-2' }), 'xy');
  t.equal(await second.change('k', owners, add('x'), { id: 'push-1' }), 'xy', 'somebody else made it');
  t.equal(await first.read('k', owners), 'xy');
  t.equal(await first.change('k', owners, add('x')), 'xyx', 'without an id each is one of its own');
});
