import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { CLOCKS_APART_MS, EVENT_TAKEN_MS, MAX_EVENT_RETRY_MS } from '../../../src/deadlines.ts';
import {
  addEvent,
  finish,
  hasDue,
  type Lane,
  MAX_EVENTS,
  putBack,
  renew,
  takeDue,
} from '../../../src/harbor/core/event-lane.ts';

const event = (key: string) => ({ key, payload: key });
const keys = (lane: Lane<string>): string[] => lane.events.map((one) => one.key);

t.test('an event is held by who took it in, and free when that one is silent', async (t) => {
  const { lane, isNew } = addEvent(undefined, event('a'), 'p1', 0);
  t.equal(isNew, true);
  t.equal(hasDue(undefined, EVENT_TAKEN_MS), false, 'a lane that was never written');
  t.equal(hasDue(lane, EVENT_TAKEN_MS - 1), false);
  t.equal(takeDue(lane, 'p2', EVENT_TAKEN_MS - 1, 9).taken.length, 0);
  t.equal(hasDue(lane, EVENT_TAKEN_MS), true);
  const { lane: next, taken } = takeDue(lane, 'p2', EVENT_TAKEN_MS, 9);
  t.equal(taken[0]?.key, 'a');
  t.equal(renew(next, 'a', 'p1', EVENT_TAKEN_MS).isHeld, false);
  t.equal(renew(next, 'a', 'p2', EVENT_TAKEN_MS + 5).lane.events[0]?.takenUntilMs, 2 * EVENT_TAKEN_MS + 5);
});

t.test('what was held or put off under a clock that was far ahead is free once that is right', async (t) => {
  const aheadMs = 3_600_000;
  const held = addEvent(undefined, event('a'), 'p1', aheadMs).lane;
  const off = putBack(held, 'a', 'p1', aheadMs).lane;
  t.equal(hasDue(held, aheadMs - CLOCKS_APART_MS), false, 'clocks that may be apart so much');
  t.equal(hasDue(held, aheadMs - CLOCKS_APART_MS - 1), false, 'it was to begin later, too');
  t.equal(hasDue(held, aheadMs - CLOCKS_APART_MS - MAX_EVENT_RETRY_MS - 1), true);
  t.equal(takeDue(held, 'p2', 0, 9).taken[0]?.takenUntilMs, EVENT_TAKEN_MS);
  t.equal(hasDue(off, aheadMs), false);
  t.equal(hasDue(off, 0), true);
});

t.test('a repeated delivery is known while it waits and after its end', async (t) => {
  const { lane } = addEvent(undefined, event('a'), 'p1', 0);
  t.same(addEvent(lane, event('a'), 'p2', 1), { lane, isNew: false });
  const done = finish(lane, 'a');
  t.same(keys(done), []);
  t.equal(addEvent(done, event('a'), 'p2', 1).isNew, false);
  t.equal(addEvent(done, event('b'), 'p2', 1).isNew, true);
});

t.test('what failed is tried again ever more rarely, and given up after a day', async (t) => {
  let { lane } = addEvent(undefined, event('a'), 'p1', 0);
  let nowMs = 0;
  const waits: number[] = [];
  for (let tries = 0; tries < 12; tries++) {
    lane = putBack(lane, 'a', 'p1', nowMs).lane;
    const { notBeforeMs } = lane.events[0]!;
    waits.push(notBeforeMs - nowMs);
    nowMs = notBeforeMs;
    lane = takeDue(lane, 'p1', nowMs, 1).lane;
  }
  t.same(waits.slice(0, 4), [2_000, 4_000, 8_000, 16_000]);
  t.equal(waits.at(-1), 300_000);
  t.same(putBack(lane, 'a', 'p2', nowMs), { lane, isOver: false }, 'only by who holds it');
  const over = putBack(lane, 'a', 'p1', 25 * 3_600_000);
  t.equal(over.isOver, true);
  t.same(over.lane, { events: [], done: ['a'] });
});

t.test('a lane is bounded', async (t) => {
  let lane: Lane<string> | undefined;
  for (let at = 0; at < MAX_EVENTS; at++) lane = addEvent(lane, event(`e${at}`), 'p1', 0).lane;
  t.throws(() => addEvent(lane, event('more'), 'p1', 0), { code: 'OVERLOADED' });
  let done: Lane<string> = { events: [], done: [] };
  for (let at = 0; at < 2_000; at++) done = finish(done, `e${at}`);
  t.equal(done.done.length, 512);
});

const owned = (owner: string, name: string) => ({ key: `${owner}/${name}`, payload: `${owner}/${name}` });
const ownerOf = (payload: string): string => payload.split('/')[0]!;

t.test('nobody fills a lane alone', async (t) => {
  let lane: Lane<string> | undefined;
  /** How many are taken in until the next one is refused. */
  const fill = (owner: string): number => {
    for (let taken = 0; ; taken += 1)
      try {
        ({ lane } = addEvent(lane, owned(owner, `${taken}`), 'p1', 0, ownerOf));
      } catch (error) {
        t.match(error, {
          code: 'OVERLOADED',
          message: `too many events of ${owner} wait; send it again later`,
        });
        return taken;
      }
  };
  t.equal(fill('a'), MAX_EVENTS / 2);
  t.equal(fill('b'), MAX_EVENTS / 4);
  t.equal(fill('c'), MAX_EVENTS / 8);
});

t.test('what failed is taken in turn of its owners, of one the oldest first', async (t) => {
  let lane: Lane<string> | undefined;
  for (let at = 0; at < 20; at += 1) ({ lane } = addEvent(lane, owned('a', `${at}`), 'p1', at, ownerOf));
  for (let at = 0; at < 2; at += 1) ({ lane } = addEvent(lane, owned('b', `${at}`), 'p1', 50 + at, ownerOf));
  for (const key of keys(lane!)) ({ lane } = putBack(lane, key, 'p1', 100));
  const first = takeDue(lane, 'p2', 10_000, 3, ownerOf);
  t.same(
    first.taken.map((one) => one.key),
    ['a/0', 'b/0', 'a/1'],
  );
  const second = takeDue(first.lane, 'p3', 10_000, 2, ownerOf);
  t.same(
    second.taken.map((one) => one.key),
    ['b/1', 'a/2'],
    'who has fewer in work comes first',
  );
});

t.test('property: every event that was taken in is worked on at least once, whoever dies', async () => {
  const step = fc.record({
    proxy: fc.constantFrom('p1', 'p2', 'p3'),
    what: fc.constantFrom('add', 'take', 'finish', 'fail', 'die'),
    name: fc.constantFrom('a', 'b', 'c', 'd'),
    passMs: fc.integer({ min: 0, max: EVENT_TAKEN_MS }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      let lane: Lane<string> = { events: [], done: [] };
      let nowMs = 0;
      const added = new Set<string>();
      const worked = new Set<string>();
      const held = new Map<string, Set<string>>();
      const of = (proxy: string): Set<string> => held.get(proxy) ?? held.set(proxy, new Set()).get(proxy)!;
      const take = (proxy: string): void => {
        const found = takeDue(lane, proxy, nowMs, 2);
        lane = found.lane;
        for (const { key } of found.taken) of(proxy).add(key);
      };
      const finishAll = (proxy: string): void => {
        for (const key of of(proxy)) {
          worked.add(key);
          lane = finish(lane, key);
        }
        of(proxy).clear();
      };
      for (const { proxy, what, name, passMs } of steps) {
        nowMs += passMs;
        if (what === 'add') {
          const result = addEvent(lane, event(name), proxy, nowMs);
          lane = result.lane;
          added.add(name);
          if (result.isNew) of(proxy).add(name);
        } else if (what === 'take') take(proxy);
        else if (what === 'finish') finishAll(proxy);
        else if (what === 'fail') {
          for (const key of of(proxy)) lane = putBack(lane, key, proxy, nowMs).lane;
          of(proxy).clear();
        } else of(proxy).clear();
      }
      for (let round = 0; round < 10; round++) {
        nowMs += 10 * EVENT_TAKEN_MS;
        take('p1');
        finishAll('p1');
      }
      return lane.events.length === 0 && [...added].every((key) => worked.has(key));
    }),
    { numRuns: 300, interruptAfterTimeLimit: 3_000 },
  );
});
