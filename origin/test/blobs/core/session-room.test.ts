import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  EMPTY_IDLE_MS,
  EMPTY_YIELDS_MS,
  isOver,
  sessionThatYields,
} from '../../../src/blobs/core/session-room.ts';

const HOUR_MS = 3_600_000;
const session = (offset: number, usedAtMs: number, busy = false) => ({ offset, usedAtMs, busy });

t.test('an empty session ends in minutes, one with bytes when it is configured', async (t) => {
  t.notOk(isOver(session(0, 0), HOUR_MS, EMPTY_IDLE_MS - 1));
  t.ok(isOver(session(0, 0), HOUR_MS, EMPTY_IDLE_MS));
  t.notOk(isOver(session(1, 0), HOUR_MS, HOUR_MS - 1));
  t.ok(isOver(session(1, 0), HOUR_MS, HOUR_MS));
  t.ok(isOver(session(0, 0), 1_000, 1_000), 'a shorter time counts for both');
  t.notOk(isOver(session(0, 0, true), HOUR_MS, HOUR_MS * 2), 'not while a request writes');
});

t.test('only an empty, silent session yields, and the longest silent one', async (t) => {
  const facts = fc.record({ offset: fc.nat(2), busy: fc.boolean(), usedAtMs: fc.nat(10_000) });
  fc.assert(
    fc.property(fc.array(facts, { maxLength: 20 }), (sessions) => {
      const nowMs = 10_000;
      const may = sessions.filter(
        (one) => one.offset === 0 && !one.busy && nowMs - one.usedAtMs >= EMPTY_YIELDS_MS,
      );
      const found = sessionThatYields(sessions, nowMs);
      return may.length === 0
        ? found === undefined
        : found !== undefined && may.includes(found) && may.every((one) => one.usedAtMs >= found.usedAtMs);
    }),
  );
  t.pass('held');
});
