import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { admitSession, isOver } from '../../../src/blobs/core/session-room.ts';
import { EMPTY_IDLE_MS, EMPTY_YIELDS_MS } from '../../../src/deadlines/own.ts';

const HOUR_MS = 3_600_000;
const session = (offset: number, usedAtMs: number, busy = false) => ({ client: 'c', offset, usedAtMs, busy });

t.test('an empty session ends in minutes, one with bytes when it is configured', async (t) => {
  t.notOk(isOver(session(0, 0), HOUR_MS, EMPTY_IDLE_MS - 1));
  t.ok(isOver(session(0, 0), HOUR_MS, EMPTY_IDLE_MS));
  t.notOk(isOver(session(1, 0), HOUR_MS, HOUR_MS - 1));
  t.ok(isOver(session(1, 0), HOUR_MS, HOUR_MS));
  t.ok(isOver(session(0, 0), 1_000, 1_000), 'a shorter time counts for both');
  t.notOk(isOver(session(0, 0, true), HOUR_MS, HOUR_MS * 2), 'not while a request writes');
});

t.test('no limit is passed, and only empty sessions end for a new one', async (t) => {
  const nowMs = 10_000;
  const client = fc.constantFrom('', 'a', 'b', 'c');
  const facts = fc.record({ client, offset: fc.nat(2), busy: fc.boolean(), usedAtMs: fc.nat(nowMs) });
  const limits = fc.record({
    all: fc.integer({ min: 1, max: 12 }),
    perClient: fc.integer({ min: 1, max: 8 }),
  });
  fc.assert(
    fc.property(
      fc.array(facts, { maxLength: 12 }),
      fc.array(client, { maxLength: 3 }),
      client,
      limits,
      (sessions, oneGo, one, most) => {
        const found = admitSession(sessions, oneGo, one, most, nowMs);
        const mine = [...sessions.map((each) => each.client), ...oneGo].filter((each) => each === one).length;
        const open = sessions.length + oneGo.length;
        fc.pre(open <= most.all);
        const isEmpty = (each: (typeof sessions)[number]): boolean => each.offset === 0 && !each.busy;
        if (found.type === 'refuse') {
          const limited =
            found.limit === 'all'
              ? sessions.filter((each) => nowMs - each.usedAtMs >= EMPTY_YIELDS_MS)
              : sessions.filter((each) => each.client === one);
          const over = found.limit === 'all' ? open >= most.all : one !== '' && mine >= most.perClient;
          return over && !limited.some(isEmpty);
        }
        const { instead } = found;
        if (!instead.every(isEmpty) || new Set(instead).size !== instead.length) return false;
        const others = instead.filter((each) => each.client !== one);
        if (others.some((each) => nowMs - each.usedAtMs < EMPTY_YIELDS_MS)) return false;
        // As many end as must, never more.
        if (instead.length > 0 && open < most.all && (one === '' || mine < most.perClient)) return false;
        return true;
      },
    ),
  );
  t.pass('held');
});

t.test('a client that has all of its places stops no other', async (t) => {
  const limits = { all: 10, perClient: 4 };
  const full = Array.from({ length: 4 }, () => ({ ...session(5, 0), client: 'greedy' }));
  t.same(admitSession(full, [], 'greedy', limits, 1_000), { type: 'refuse', limit: 'perClient' });
  t.same(admitSession(full, [], 'other', limits, 1_000), { type: 'go', instead: [] });
  const empty = [...full.slice(1), { ...session(0, 900), client: 'greedy' }];
  t.same(admitSession(empty, [], 'greedy', limits, 1_000), { type: 'go', instead: [empty[3]] });
});
