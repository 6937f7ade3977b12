import t from 'tap';
import { MemberClock } from '../../src/clock/member-clock.ts';

const WALL = 1_800_000_000_000;

function clockOf(wallAheadMs: number) {
  const at = { wallMs: WALL + wallAheadMs, steadyMs: 5_000 };
  const clock = new MemberClock({ wallMs: () => at.wallMs, steadyMs: () => at.steadyMs });
  const pass = (ms: number): void => {
    at.wallMs += ms;
    at.steadyMs += ms;
  };
  /** A call to a member whose clock is right. */
  const call = (id: string): void => {
    const markMs = clock.mark();
    const dateMs = at.wallMs - wallAheadMs;
    pass(10);
    clock.answered(id, { dateMs: dateMs + 5 }, markMs);
  };
  return { clock, at, pass, call };
}

t.test('a member that starts with a wrong clock works in the time of the others', async (t) => {
  const { clock, at, pass, call } = clockOf(300_000);
  t.equal(clock.nowMs(), WALL + 300_000);
  call('a');
  t.equal(clock.dateFor('a'), WALL + 10, 'the date of a call is that of who is called, at once');
  call('b');
  t.equal(clock.nowMs(), WALL + 20);
  t.equal(clock.skewSeconds, 300);
  t.match(clock.warnings, [/clock skew: .*300 s ahead/]);
  pass(1_000);
  at.wallMs -= 300_000;
  pass(1_000);
  t.equal(clock.nowMs(), WALL + 2_020, 'it is set right: no time is lived twice');
  t.same(clock.warnings, []);
});

t.test('a clock that is set wrong while it runs moves nothing', async (t) => {
  const { clock, at, pass, call } = clockOf(0);
  for (const id of ['a', 'b', 'c']) call(id);
  at.wallMs += 30_000;
  pass(1_000);
  t.equal(clock.nowMs(), WALL + 1_030);
  t.equal(clock.skewSeconds, 30);
});

t.test('machines that were all set, or slept, are followed', async (t) => {
  const { clock, at, pass, call } = clockOf(0);
  for (const id of ['a', 'b']) call(id);
  const before = clock.nowMs();
  t.equal(clock.wallMs(), undefined, 'it is the time that all work in');
  at.wallMs += 28_800_000;
  pass(1_000);
  t.equal(clock.nowMs(), before + 1_000);
  t.equal(clock.wallMs(), before + 28_801_000, 'others are told');
  const markMs = clock.mark();
  clock.answered('a', { dateMs: before + 1_000, wallMs: before + 28_801_000 }, markMs);
  t.equal(clock.nowMs(), before + 28_801_000, 'two of three show it');
  t.equal(clock.wallMs(), undefined);
  t.same(clock.warnings, [], 'b was not asked since');
});

t.test('an answer is news where it says more than is known', async (t) => {
  const { clock, at, pass, call } = clockOf(0);
  const news = (id: string, aheadMs: number, tookMs: number): boolean => {
    const markMs = clock.mark();
    pass(tookMs);
    return clock.isNews(id, { dateMs: at.wallMs + aheadMs - tookMs / 2 }, markMs);
  };
  t.ok(news('a', 0, 10), 'nothing is known of it');
  call('a');
  t.notOk(news('a', 0, 10));
  t.notOk(news('a', 3, 400), 'less sure');
  t.ok(news('a', 0, 4), 'surer');
  t.ok(news('a', 90_000, 10), 'it was set');
  t.notOk(news('b', Number.NaN, 10), 'it says nothing');
  pass(60_000);
  t.ok(news('a', 0, 10), 'what is known is old');
});
