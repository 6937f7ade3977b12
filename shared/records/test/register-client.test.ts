import { CodedError } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { REGISTER_HEDGE_MS } from '../src/deadlines.ts';
import {
  type AcceptorState,
  acceptorStep,
  EMPTY_ACCEPTOR,
  type RegisterReply,
  type RegisterRequest,
} from '../src/register/register.ts';
import { RegisterClient, type RegisterClientDeps } from '../src/register/register-client.ts';

function clientWith(
  transport: (id: string, request: RegisterRequest) => Promise<RegisterReply>,
): RegisterClient {
  const deps = { transport, chance: () => 0.5, nowMs: () => performance.now() };
  return new RegisterClient(deps, { proposerId: 'p', backoffMs: 1, maxBackoffMs: 2 });
}

t.test('owners that are silent are no quorum', async (t) => {
  const client = clientWith(() => Promise.reject(new CodedError('PEER_HTTP')));
  await t.rejects(client.read('key', ['a', 'b', 'c']), { code: 'QUORUM_LOST' });
});

t.test('a bug on the way to an owner is thrown: it is not the silence of an owner', async (t) => {
  const client = clientWith(() => Promise.reject(new TypeError('wrong code')));
  await t.rejects(client.read('key', ['a', 'b', 'c']), TypeError);
  await t.rejects(
    client.change('key', ['a', 'b', 'c'], () => 1),
    TypeError,
  );
});

t.test('a bug in the change itself is thrown', async (t) => {
  const client = clientWith(async (_id, request) =>
    request.type === 'accept' ? { type: 'accepted' } : ({ type: 'state' } as RegisterReply),
  );
  const change = (): number => {
    throw new TypeError('wrong code');
  };
  await t.rejects(client.change('key', ['a', 'b', 'c'], change), TypeError);
});

/** Owners of registers that answer as acceptors do, unless `away` names them; `asked` is what each was. */
function owners(away: ReadonlySet<string> = new Set()) {
  const states = new Map<string, AcceptorState>();
  const asked: string[] = [];
  const transport = async (id: string, request: RegisterRequest): Promise<RegisterReply> => {
    asked.push(`${request.type} ${id}`);
    if (away.has(id)) throw new CodedError('PEER_HTTP');
    const register = `${id} ${request.key}`;
    const { next, reply } = acceptorStep(states.get(register) ?? EMPTY_ACCEPTOR, request);
    states.set(register, next);
    return reply;
  };
  return { asked, transport, states };
}

function clientAt(
  transport: ReturnType<typeof owners>['transport'],
  deps: Pick<RegisterClientDeps, 'delay' | 'isSuspect'>,
): RegisterClient {
  const given = { transport, chance: () => 0.5, nowMs: () => 0, incarnation: 'i', ...deps };
  return new RegisterClient(given, { proposerId: 'b', backoffMs: 1 });
}

t.test('a prepare goes to a quorum, from the proposer on, and the accept to all', async (t) => {
  const { asked, transport, states } = owners();
  const never = (): Promise<void> => new Promise(() => undefined);
  const client = clientAt(transport, { delay: never });
  t.equal(await client.change('k', ['a', 'b', 'c'], () => 'x'), 'x');
  t.same(asked, ['prepare b', 'prepare a', 'accept b', 'accept a', 'accept c']);
  t.same(states.get('c k'), states.get('a k'), 'who was not asked has it as well');
});

t.test('where one of a quorum does not answer, or is suspected, the others are asked', async (t) => {
  const { asked, transport } = owners(new Set(['a']));
  const never = (): Promise<void> => new Promise(() => undefined);
  t.equal(await clientAt(transport, { delay: never }).change('k', ['a', 'b', 'c'], () => 'x'), 'x');
  t.same(asked.slice(0, 3), ['prepare b', 'prepare a', 'prepare c']);
  asked.length = 0;
  const knowing = clientAt(transport, { delay: never, isSuspect: (id) => id === 'a' });
  t.equal(await knowing.change('j', ['a', 'b', 'c'], () => 'y'), 'y');
  t.same(asked.slice(0, 2), ['prepare b', 'prepare c'], 'who did not answer of late is asked last');
  t.notOk(asked.includes('prepare a'));
});

t.test('one of a quorum that is slow is not waited for', async (t) => {
  const { asked, transport } = owners();
  const client = clientAt(
    (id, request) => (id === 'a' ? new Promise(() => undefined) : transport(id, request)),
    {
      delay: async (ms) =>
        await (ms === REGISTER_HEDGE_MS ? Promise.resolve() : new Promise(() => undefined)),
    },
  );
  t.equal(await client.change('k', ['a', 'b', 'c'], () => 'x'), 'x');
  t.ok(asked.includes('prepare c'));
});

t.test('one that says no is made up for at once, whoever else is slow', async (t) => {
  const { asked, transport } = owners(new Set(['a']));
  const never = (): Promise<void> => new Promise(() => undefined);
  const client = clientAt(
    (id, request) => (id === 'c' ? new Promise(() => undefined) : transport(id, request)),
    { delay: never },
  );
  t.equal(await client.change('k', ['a', 'b', 'c', 'd', 'e'], () => 'x'), 'x');
  t.same(asked.slice(0, 4), ['prepare b', 'prepare a', 'prepare d', 'prepare e']);
});

const PATIENCE = { messageMs: 4_000, deadlineMs: 10_000 };

/** A proposer whose owners take so many ms each to answer, under a virtual clock; `sent` is what each got, and for how long. */
function slowly(t: Test, tookMs: Readonly<Record<string, number>>, isGone?: (id: string) => boolean) {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const { transport } = owners();
  const sent: string[] = [];
  const deps: RegisterClientDeps = {
    transport: async (id, request, signal, timeoutMs) => {
      sent.push(`${request.type} ${id} ${timeoutMs}`);
      const reply = await transport(id, request);
      await delay(tookMs[id]!, signal);
      return reply;
    },
    chance: () => 0.5,
    nowMs: () => performance.now(),
    ...(isGone === undefined ? {} : { isGone }),
  };
  const client = new RegisterClient(deps, { proposerId: 'b', requestTimeoutMs: 800, quorumTries: 2 });
  return { time, client, sent };
}

const ABC = ['a', 'b', 'c'];

t.test('owners that are all slow change a register where nobody has another way', async (t) => {
  const { time, client } = slowly(t, { a: 3_000, b: 3_000, c: 3_000 });
  await t.rejects(time.settle(client.change('k', ABC, () => 'x')), { code: 'QUORUM_LOST' });
  t.equal(await time.settle(client.change('k', ABC, () => 'y', { patience: PATIENCE })), 'y');
  await t.rejects(
    time.settle(client.read('k', ABC)),
    { code: 'QUORUM_LOST' },
    'who has another way takes it',
  );
  t.equal(await time.settle(client.read('k', ABC, { patience: PATIENCE })), 'y');
});

t.test('owners that hang cost a call its patience once, and those that are gone not at all', async (t) => {
  const hung = { a: 1e9, b: 0, c: 1e9 };
  const first = slowly(t, hung);
  const change = first.client.change('k', ABC, () => 'x', { patience: PATIENCE });
  await t.rejects(first.time.settle(change), { code: 'QUORUM_LOST' });
  t.same(first.sent, [
    'prepare b 4000',
    'prepare a 4000',
    'prepare c 4000',
    'prepare b 4000',
    'prepare a 800',
    'prepare c 800',
  ]);
  first.time.uninstall();
  const gone = slowly(t, hung, (id) => id !== 'b');
  const read = gone.client.read('k', ABC, { patience: PATIENCE });
  await t.rejects(gone.time.settle(read), { code: 'QUORUM_LOST' });
  t.same([...new Set(gone.sent.filter((one) => !one.includes(' b ')))].sort(), [
    'prepare a 800',
    'prepare c 800',
    'read a 800',
    'read c 800',
  ]);
});

t.test('a read that was patient with who hangs is not so again when it settles the value', async (t) => {
  const { time, client, sent } = slowly(t, { a: 1e9, b: 0, c: 1e9 });
  await t.rejects(time.settle(client.read('k', ABC, { patience: PATIENCE })), { code: 'QUORUM_LOST' });
  t.ok(sent.includes('read a 4000'));
  t.notOk(sent.includes('prepare a 4000'), sent.join());
});

t.test('slow owners and rivals that always win: it ends soon after its deadline', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const sent: number[] = [];
  const deps: RegisterClientDeps = {
    transport: async (_id, _request, signal, timeoutMs) => {
      sent.push(timeoutMs);
      await delay(3_900, signal);
      return { type: 'refused', promised: { counter: 1e6 + sent.length, proposer: 'z' } };
    },
    chance: () => 0.5,
    nowMs: () => performance.now(),
  };
  const client = new RegisterClient(deps, { proposerId: 'b', requestTimeoutMs: 800, deadlineMs: 5_000 });
  const change = client.change('k', ABC, () => 'x', { patience: PATIENCE });
  await t.rejects(time.settle(change), { code: 'QUORUM_LOST' });
  t.ok(time.elapsedMs < PATIENCE.deadlineMs + 2 * 800, 'a round without patience');
  t.same(new Set(sent.slice(0, 6)), new Set([4_000]), 'it went on while there was time');
});
