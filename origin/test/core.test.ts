import { Bitfield } from '@sepia/base/bitfield';
import type { ErrorCode } from '@sepia/base/errors';
import t from 'tap';
import { MOST_ASKED_MS } from '../src/deadlines/upstreams.ts';
import { FetchPace } from '../src/fetch/core/fetch-pace.ts';
import { FetchPlan } from '../src/fetch/core/fetch-plan.ts';
import { errorWeight, retryDelayMs } from '../src/fetch/core/fetch-retry.ts';
import {
  decideTag,
  defaultPolicy,
  mayMove,
  setFault,
  staleAge,
  type TagRules,
} from '../src/upstream/core/tag-policy.ts';

const MIB = 1024 * 1024;

t.test('a plan runs from the first missing piece to the end', async (t) => {
  const plan = new FetchPlan(10 * MIB, { wantAll: true });
  t.same(plan.next(), { start: 0, end: 10, urgent: false });
  plan.opened(1, { start: 0, end: 10 });
  t.equal(plan.next(), undefined);
  t.equal(plan.connections, 1);
  for (let piece = 0; piece < 9; piece++) {
    t.equal(plan.landed(piece), true);
    t.equal(plan.delivered(1, piece), true, `goes on after ${piece}`);
  }
  t.equal(plan.hungry, true);
  plan.landed(9);
  t.equal(plan.delivered(1, 9), false);
  t.equal(plan.complete, true);
  t.equal(plan.hungry, false);
  t.equal(plan.next(), undefined);
  t.equal(plan.delivered(99, 0), false);
});

t.test('readers far ahead get connections of their own, near ones wait', async (t) => {
  const plan = new FetchPlan(40 * MIB, { wantAll: true });
  plan.opened(1, { start: 0, end: 40 });
  plan.moveReader(7, 5);
  t.equal(plan.next(), undefined, 'the main connection is near');
  plan.moveReader(8, 30, 31);
  t.same(plan.next(), { start: 30, end: 32, urgent: true });
  plan.opened(2, { start: 30, end: 32 });
  t.equal(plan.next(), undefined);
  plan.setRanges(true);
  plan.landed(30);
  t.equal(plan.delivered(2, 30), true);
  plan.landed(31);
  t.equal(plan.delivered(2, 31), false);
  plan.closed(2);
  plan.closeReader(8);
  for (let piece = 0; piece < 29; piece++) {
    plan.landed(piece);
    t.equal(plan.delivered(1, piece), true);
  }
  plan.landed(29);
  t.equal(plan.delivered(1, 29), false, 'what others brought is not read again');
  plan.closed(1);
  t.same(plan.next(), { start: 32, end: 40, urgent: false });
});

t.test(
  'before the first answer one connection asks: for what is wanted, else for the piece it is told',
  async (t) => {
    const plan = new FetchPlan(10 * MIB, { wantAll: false });
    t.same(plan.first(), { start: 0, end: 1, urgent: true }, 'no reader yet');
    t.same(plan.first(4), { start: 4, end: 5, urgent: true });
    t.same(plan.first(99), { start: 9, end: 10, urgent: true }, 'the size was only believed');
    plan.moveReader(1, 6, 6);
    t.same(plan.first(4), { start: 6, end: 7, urgent: true }, 'a reader waits');
    plan.opened(1, { start: 6, end: 7 });
    t.equal(plan.first(4), undefined, 'one is enough');
  },
);

t.test('nothing is asked while the swarm holds all that is missing', async (t) => {
  const held = new Bitfield(4);
  for (const piece of [1, 2, 3]) held.add(piece);
  const plan = new FetchPlan(4 * MIB, { wantAll: true });
  plan.landed(0);
  plan.avoid(held);
  t.equal(plan.next(), undefined);
  plan.opened(1, { start: 0, end: 1 });
  t.equal(plan.next(), undefined, 'nor beside what runs');
  plan.closed(1);
  plan.stopAvoiding();
  t.same(plan.next(), { start: 1, end: 4, urgent: false });
});

t.test('without Range nothing is asked beside the one connection', async (t) => {
  const plan = new FetchPlan(40 * MIB, { wantAll: true });
  plan.setRanges(false);
  plan.setRanges(true);
  t.equal(plan.ranges, 'no', 'a no stays');
  plan.opened(1, { start: 0, end: 40 });
  plan.moveReader(1, 30);
  t.equal(plan.next(), undefined);
  plan.landed(1);
  plan.landed(0);
  t.equal(plan.delivered(1, 0), true, 'reads through what is there');
  plan.closed(1);
  t.same(plan.next(), { start: 2, end: 40, urgent: false });
});

t.test('for readers alone nothing else is fetched', async (t) => {
  const plan = new FetchPlan(40 * MIB, { wantAll: false });
  t.equal(plan.hungry, false);
  t.equal(plan.next(), undefined);
  plan.moveReader(1, 39, Number.MAX_SAFE_INTEGER);
  t.equal(plan.hungry, true);
  t.same(plan.next(), { start: 39, end: 40, urgent: true }, 'never beyond the end');
  plan.opened(1, { start: 39, end: 40 });
  plan.moveReader(2, 3, 9);
  plan.moveReader(3, 20, 20);
  t.same(plan.next(), { start: 3, end: 7, urgent: true });
  plan.opened(2, { start: 3, end: 7 });
  t.same(plan.next(), { start: 20, end: 21, urgent: true });
  plan.opened(3, { start: 20, end: 21 });
  plan.moveReader(4, 33, 33);
  t.equal(plan.next(), undefined, 'at most two beside the first');
  plan.setRanges(true);
  plan.landed(3);
  t.equal(plan.delivered(2, 3), true);
  plan.closeReader(2);
  plan.landed(4);
  t.equal(plan.delivered(2, 4), false, 'its reader is gone');
  plan.setWantAll();
  t.equal(plan.wantAll, true);
  t.equal(plan.hungry, true);
  plan.closed(2);
  t.same(plan.next(), { start: 33, end: 34, urgent: true });
  plan.moveReader(4, 39);
  t.same(plan.next(), { start: 0, end: 3, urgent: false }, 'the rest does not wait for readers');
});

t.test('what no member that is reached holds is not left to the swarm any longer', async (t) => {
  const held = new Bitfield(8);
  for (const piece of [0, 1, 2, 5]) held.add(piece);
  const reached = new Bitfield(8);
  for (const piece of [1, 2]) reached.add(piece);
  const plan = new FetchPlan(8 * MIB, { wantAll: true });
  plan.peersHold(reached);
  t.equal(plan.avoiding, false, 'nothing was left to it');
  plan.avoid(held);
  plan.peersHold(reached);
  t.same(plan.next(), { start: 3, end: 5, urgent: false }, 'others are still being dialled');
  plan.peersHold(reached);
  t.same(plan.next(), { start: 0, end: 1, urgent: false });
  plan.opened(1, { start: 0, end: 1 });
  plan.landed(0);
  plan.closed(1);
  t.same(plan.next(), { start: 3, end: 8, urgent: false });
  reached.delete(2);
  plan.peersHold(reached);
  t.same(plan.next(), { start: 2, end: 8, urgent: false }, 'one of them is gone');
  plan.avoid(held);
  plan.peersHold(reached);
  t.same(plan.next(), { start: 3, end: 5, urgent: false }, 'another leader was heard of');
});

t.test('pieces that agents hold are left to the swarm for a while', async (t) => {
  const held = new Bitfield(8);
  for (const piece of [0, 1, 2, 5]) held.add(piece);
  const plan = new FetchPlan(8 * MIB, { wantAll: true });
  plan.avoid(held);
  t.equal(plan.avoiding, true);
  plan.moveReader(1, 0);
  t.same(plan.next(), { start: 3, end: 5, urgent: false });
  plan.opened(1, { start: 3, end: 5 });
  t.equal(plan.next(), undefined, 'one run at a time');
  plan.landed(3);
  plan.landed(4);
  plan.closed(1);
  t.same(plan.next(), { start: 6, end: 8, urgent: false });
  plan.opened(2, { start: 6, end: 8 });
  plan.stopAvoiding();
  t.same(plan.next(), { start: 0, end: 3, urgent: true });
  plan.reset();
  t.equal(plan.have.count, 0);
});

t.test('whatever happens, a plan asks for each piece until it is complete', async (t) => {
  let seed = Number(process.env['SEED'] ?? 7);
  const chance = (limit: number): number => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return seed % limit;
  };
  for (let round = 0; round < 200; round++) {
    const pieces = 1 + chance(50);
    const plan = new FetchPlan(pieces * MIB - chance(1000), { wantAll: true });
    const open = new Map<number, { next: number; end: number }>();
    for (let step = 0; step < 5_000 && !plan.complete; step++) {
      for (let job = plan.next(); job !== undefined; job = plan.next()) {
        t.ok(job.start < job.end && job.end <= pieces, `round ${round}: ${JSON.stringify(job)}`);
        plan.opened(step * 10 + open.size, job);
        open.set(step * 10 + open.size, { next: job.start, end: job.end });
        if (open.size > 3) throw new Error(`round ${round}: ${open.size} connections`);
      }
      if (chance(4) === 0)
        plan.moveReader(chance(3), chance(pieces), chance(2) === 0 ? undefined : chance(pieces));
      if (chance(9) === 0) plan.closeReader(chance(3));
      if (chance(6) === 0) plan.setRanges(true);
      const [id = -1, one = { next: 0, end: 0 }] = [...open][chance(Math.max(1, open.size))] ?? [];
      if (id === -1) continue;
      if (chance(5) === 0) {
        plan.closed(id);
        open.delete(id);
        continue;
      }
      plan.landed(one.next);
      one.next += 1;
      if (!plan.delivered(id, one.next - 1)) {
        plan.closed(id);
        open.delete(id);
      }
    }
    t.equal(plan.complete, true, `round ${round} of ${pieces} pieces ends`);
  }
});

t.test('a plan knows whether the upstream thinks: nothing that is open has been answered', async (t) => {
  const plan = new FetchPlan(10 * MIB, { wantAll: false });
  plan.moveReader(1, 0, 9);
  t.equal(plan.thinking, false, 'nobody was asked');
  plan.opened(1, { start: 0, end: 1 });
  t.equal(plan.thinking, true);
  plan.answered(1);
  t.equal(plan.thinking, false);
  plan.opened(2, { start: 1, end: 2 });
  t.equal(plan.thinking, false, 'one sends');
  plan.closed(1);
  t.equal(plan.thinking, true, 'the second request is as the first');
  plan.answered(9);
  plan.closed(2);
  t.equal(plan.thinking, false);
});

const NO_BYTE = { avoiding: false, came: false, keptBytes: 0, missingBytes: 4_000_000 };

t.test('pace: retries with growing pauses, ends without progress, lingers for readers', async (t) => {
  const pace = new FetchPace({ progressMs: 10_000, firstByteMs: 60_000, lingerMs: 60_000 }, 0);
  const failed = (code: ErrorCode, nowMs: number, more: { after?: number; avoiding?: boolean } = {}) =>
    pace.failed(
      { code, detail: { retryAfterSeconds: more.after } },
      { ...NO_BYTE, avoiding: more.avoiding === true },
      nowMs,
    );
  t.equal(pace.mayTry(0), true);
  t.same(failed('BACKEND_DOWN', 1_000), { type: 'retry', inMs: 100 });
  t.equal(pace.mayTry(1_050), false);
  t.equal(pace.hasFailed, true);
  t.same(failed('BACKEND_DOWN', 1_100), { type: 'retry', inMs: 200 });
  pace.landed(1_200, false);
  t.equal(pace.hasFailed, false, 'a piece came since');
  t.same(failed('BACKEND_DOWN', 1_200), { type: 'retry', inMs: 100 });
  t.same(failed('UPSTREAM_LIMITED', 1_200, { after: 3 }), { type: 'retry', inMs: 3_000 });
  t.same(failed('UPSTREAM_LIMITED', 1_200, { after: 30 }), { type: 'fail' });
  t.same(failed('BLOB_UNKNOWN', 1_200), { type: 'fail' });
  t.equal(failed('BLOB_UNKNOWN', 1_200, { avoiding: true }).type, 'retry', 'the swarm may still have it');
  t.same(failed('DISK_FULL', 1_200, { avoiding: true }), { type: 'fail' });
  const hungry = { hungry: true, readers: 1, avoiding: false, thinking: false };
  t.equal(pace.tick(hungry, 11_000), 'go-on');
  t.equal(pace.tick(hungry, 11_300), 'late');
  pace.progress(1_024, 11_300);
  t.equal(pace.tick(hungry, 11_300), 'go-on');
  t.equal(pace.tick({ ...hungry, avoiding: true }, 12_000), 'stop-avoiding');
  pace.landed(12_000, true);
  t.equal(pace.tick({ ...hungry, avoiding: true }, 12_100), 'go-on');
  t.equal(pace.tick({ ...hungry, hungry: false, readers: 1 }, 100_000), 'go-on');
  pace.readerLeft(100_000);
  t.notOk(pace.isLeft(101_000), 'its reader may come again');
  t.ok(pace.isLeft(103_000));
  t.equal(pace.tick({ ...hungry, hungry: false, readers: 0 }, 150_000), 'go-on');
  t.equal(pace.tick({ ...hungry, hungry: false, readers: 0 }, 160_001), 'unwanted');
  pace.conflict();
  t.equal(failed('UPSTREAM_LIES', 160_001).type, 'retry');
  pace.conflict();
  t.same(failed('UPSTREAM_LIES', 160_001), { type: 'new-attempt' });
  pace.newAttempt(160_002);
  t.equal(failed('UPSTREAM_LIES', 160_002).type, 'retry');
  t.equal(errorWeight({ code: 'BACKEND_DOWN' }), 'passing');
  t.equal(errorWeight({ code: 'BACKEND_DOWN', detail: { reason: 'timeout' } }), 'passing');
  t.equal(errorWeight({ code: 'BACKEND_DOWN', detail: { reason: 'redirect-refused' } }), 'certain');
  t.equal(errorWeight({ code: 'BACKEND_DOWN', detail: { reason: 'blob-too-large' } }), 'certain');
  t.equal(errorWeight({ code: 'UPSTREAM_DENIED' }), 'certain');
  t.equal(retryDelayMs(50, undefined), 2_000);
  t.equal(retryDelayMs(0, 7), 7_000);
  for (const seconds of [999_999_999, Number.POSITIVE_INFINITY])
    t.equal(retryDelayMs(0, seconds), MOST_ASKED_MS, `${seconds} s`);
  for (const seconds of [0, -5, Number.NaN]) t.equal(retryDelayMs(0, seconds), 100, `${seconds} s`);
});

t.test('tag policies', async (t) => {
  const rules: TagRules = { mode: 'pull-through', policy: 'revalidate', ttlMs: 100, staleLimitMs: 1_000 };
  const facts = { digest: 'd', checkedAtMs: 1_000 };
  t.equal(decideTag(undefined, { ...rules, mode: 'none' }, 0), 'unknown');
  t.equal(decideTag(facts, { ...rules, mode: 'none' }, 9e9), 'answer');
  t.equal(decideTag(undefined, rules, 0), 'ask-upstream');
  t.equal(decideTag(facts, rules, 1_099), 'answer');
  t.equal(decideTag(facts, rules, 1_100), 'ask-upstream');
  for (const policy of ['immutable', 'pinned'] as const)
    t.equal(decideTag(facts, { ...rules, policy }, 9e9), 'answer');
  t.equal(staleAge(undefined, rules, 0), undefined);
  t.equal(staleAge(facts, rules, 2_000), 1);
  t.equal(staleAge(facts, rules, 2_001), undefined);
  t.equal(staleAge(facts, rules, 0), 0);
  const mutable = { ...rules, policy: 'mutable' } as const;
  t.equal(decideTag(facts, mutable, 1_001), 'ask-upstream', 'mutable never trusts its record alone');
  t.equal(decideTag(facts, { ...mutable, mode: 'none' }, 9e9), 'answer');
  for (const mover of ['push', 'set', 'revalidate'] as const) {
    const immutable = { ...rules, policy: 'immutable' } as const;
    t.equal(mayMove('a', 'b', rules, mover), true);
    t.equal(mayMove('a', 'b', immutable, mover), false);
    t.equal(mayMove('a', 'a', immutable, mover), true);
    t.equal(mayMove(undefined, 'a', immutable, mover), true);
    t.equal(mayMove('a', 'b', { ...rules, policy: 'pinned' }, mover), mover !== 'revalidate');
  }
  t.equal(setFault({ ...rules, mode: 'none', policy: 'mutable' }), undefined);
  t.equal(setFault({ ...rules, policy: 'pinned' }), undefined);
  t.match(setFault(rules), /follows the upstream/);
  t.equal(defaultPolicy('none'), 'mutable');
  t.equal(defaultPolicy('pull-through'), 'revalidate');
});
