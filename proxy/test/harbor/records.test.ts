import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { delay as virtualDelay } from '@sepia/base/lifecycle';
import {
  type AcceptorState,
  acceptorStep,
  EMPTY_ACCEPTOR,
  type RegisterRequest,
} from '@sepia/records/register/register';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { Records } from '../../src/harbor/records.ts';

type Origins = ConstructorParameters<typeof Records>[0]['origins'];
const IDS = ['o1', 'o2', 'o3'];

/** Registers on three origins that take a moment to answer. */
function start(options: { nowMs?: () => number; takes?: () => Promise<void> } = {}): {
  records: Records;
  asked: RegisterRequest[];
} {
  const { takes = async () => await delay(1) } = options;
  const states = new Map<string, AcceptorState>();
  const asked: RegisterRequest[] = [];
  const call = async (id: string, { body }: { body: string }): Promise<unknown> => {
    await takes();
    const request = JSON.parse(body) as RegisterRequest;
    asked.push(request);
    const { next, reply } = acceptorStep(states.get(id) ?? EMPTY_ACCEPTOR, request);
    states.set(id, next);
    return { body: Readable.from([Buffer.from(JSON.stringify(reply))]), headers: {} };
  };
  const health = { isSuspect: () => false, isGone: () => false };
  const origins = { call, health, shard: () => ({ epoch: 0, sets: [IDS] }) } as unknown as Origins;
  const { nowMs = () => Date.now() } = options;
  return { records: new Records({ origins, memberId: 'p1', nowMs }), asked };
}

t.test(
  'a hundred changes of one register at once: one after the other, none in the way of another',
  async (t) => {
    const { records, asked } = start();
    const add = async (_: unknown, at: number): Promise<unknown> =>
      await records.change<number[]>('events', (list = []) => [...list, at]);
    await Promise.all(Array.from({ length: 100 }, add));
    const list = await records.read<number[]>('events');
    t.same(list, [...Array(100).keys()], 'in the order in which they came');
    const ballots = new Set(
      asked.flatMap((one) => (one.type === 'prepare' ? [JSON.stringify(one.ballot)] : [])),
    );
    t.equal(ballots.size, 100, 'nothing was proposed twice');
  },
);

t.test('changes of other registers do not wait for it', async (t) => {
  const { records } = start();
  const ends: string[] = [];
  const noted = async (key: string): Promise<void> => {
    await records.change(key, () => key);
    ends.push(key);
  };
  await Promise.all([...Array.from({ length: 10 }, async () => await noted('busy')), noted('other')]);
  t.ok(ends.indexOf('other') < 5, ends.join(' '));
});

t.test('whose turn comes after its deadline does not ask any more', async (t) => {
  let nowMs = 0;
  const { records, asked } = start({ nowMs: () => nowMs });
  const first = records.change('events', () => 1);
  const late = records.change('events', () => 2);
  nowMs = 15_001;
  await first;
  const before = asked.length;
  await t.rejects(late, { code: 'CONFLICT' });
  t.equal(asked.length, before);
  t.equal(await records.change('events', () => 3), 3, 'later ones go on');
});

t.test('origins that all take three seconds for an answer keep and tell what they are given', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const { records } = start({ takes: async () => await virtualDelay(3_000) });
  t.equal(await time.settle(records.change('events', () => 1)), 1);
  t.equal(await time.settle(records.read('events')), 1);
});
