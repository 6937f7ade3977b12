import { RateBudget } from '@sepia/base/async/rate-budget';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  failurePlan,
  listedBy,
  nextTry,
  passes,
  RuleMatcher,
  subjectOfTag,
} from '../../../src/replication/core/replication.ts';

const RULE = { name: 'r', from: 'local', repositories: ['team/**'], rewrite: {} };

t.test('which repositories and tags a rule names, and how they are called there', async (t) => {
  const rule = new RuleMatcher({ ...RULE, tags: ['v*'] });
  t.equal(rule.matchesTag('local', 'team/app', 'v1'), true);
  t.equal(rule.matchesTag('other', 'team/app', 'v1'), false);
  t.equal(rule.matchesTag('local', 'elsewhere', 'v1'), false);
  t.equal(rule.matchesTag('local', 'team/app', 'latest'), false);
  const signature = `sha256-${'a'.repeat(64)}.sig`;
  t.equal(rule.matchesTag('local', 'team/app', signature), true);
  t.equal(rule.onlyWithSubject(signature), true);
  t.equal(rule.onlyWithSubject('v1'), false);
  t.equal(subjectOfTag(signature), `sha256:${'a'.repeat(64)}`);
  t.equal(subjectOfTag('sha256-1'), undefined);
  t.equal(listedBy(`sha256-${'a'.repeat(64)}`), `sha256:${'a'.repeat(64)}`);
  for (const tag of [signature, 'sha256-1', 'v1']) t.equal(listedBy(tag), undefined, tag);
  t.ok(passes('BACKEND_DOWN'));
  t.notOk(passes('UPSTREAM_DENIED'));
  t.equal(
    new RuleMatcher(RULE).matchesTag('local', 'team/app', 'latest'),
    true,
    'no tags named: all of them',
  );
  const named = new RuleMatcher({ ...RULE, rewrite: { 'strip-prefix': 'team', 'add-prefix': 'dr/eu' } });
  t.equal(named.target('team/app'), 'dr/eu/app');
  t.equal(named.target('team'), undefined, 'nothing would be left');
  t.equal(named.matchesRepository('local', 'team'), false);
  t.equal(
    new RuleMatcher({ ...RULE, rewrite: { 'add-prefix': 'a'.repeat(250) } }).target('team/app'),
    undefined,
  );
});

t.test('waits double up to a limit, with chance, at least what the target asked for', async (t) => {
  const rules = { firstMs: 1_000, maxMs: 60_000, tries: 10 };
  t.equal(nextTry(1, rules, 0, undefined), 500);
  t.equal(nextTry(2, rules, 0, undefined), 1_000);
  t.equal(nextTry(9, rules, 0.999, undefined), 59_970);
  t.equal(nextTry(1, rules, 0, 30_000), 30_000);
  t.equal(nextTry(10, rules, 0, undefined), 'dead');
  const atOnce = { ...rules, firstMs: 0 };
  t.equal(nextTry(1, atOnce, 0.999, undefined), 0, 'first: 0s');
  t.equal(nextTry(2, atOnce, 0, undefined), 500, 'never without a pause for long');
  t.equal(nextTry(3, atOnce, 0, undefined), 1_000);
  t.equal(nextTry(9, atOnce, 0.999, undefined), 59_970);
  fc.assert(
    fc.property(fc.nat(2_000), fc.double({ min: 0, max: 0.999, noNaN: true }), (tries, chance) => {
      const next = nextTry(tries, { ...rules, tries: 5_000 }, chance, undefined);
      return typeof next === 'number' && next >= 0 && next <= 60_000;
    }),
  );
});

t.test('bytes are spread over time; what was not used is kept for a second', async (t) => {
  const budget = new RateBudget(1_000);
  t.equal(budget.take(1_000, 10_000), 0);
  t.equal(budget.take(500, 10_000), 0, 'a second was saved');
  t.equal(budget.take(500, 10_000), 500);
  t.equal(budget.take(1, 20_000), 0);
});

t.test('what is owed is given up for refusals alone, never for silence', async (t) => {
  const rules = { firstMs: 100, maxMs: 1_000, tries: 3 };
  const failure = { tries: 0, strikes: 50, retryAfterMs: undefined, chance: 0.5 };
  t.same(failurePlan({ ...failure, code: 'BACKEND_DOWN' }, rules, true), {
    next: 750,
    tries: 0,
    pauses: true,
  });
  t.same(failurePlan({ ...failure, code: 'QUORUM_LOST' }, rules, true), {
    next: 750,
    tries: 0,
    pauses: false,
  });
  for (const code of ['MEMBER_BUSY', 'DISK_FULL', 'DISK_CORRUPT', 'RING_CHANGING', 'EPOCH_OUTDATED'])
    t.same(
      failurePlan({ ...failure, code, tries: 2 }, rules, true),
      { next: 750, tries: 2, pauses: false },
      `${code}: this cluster's own trouble is no refusal`,
    );
  t.equal(failurePlan({ ...failure, code: 'BACKEND_DOWN', tries: 2 }, rules, false).next, 'dead');
  t.equal(failurePlan({ ...failure, code: 'UPSTREAM_DENIED', tries: 2 }, rules, true).next, 'dead');
  t.same(failurePlan({ ...failure, code: 'UPSTREAM_DENIED' }, rules, true), {
    next: 75,
    tries: 1,
    pauses: false,
  });
  t.equal(
    failurePlan({ ...failure, code: 'UPSTREAM_POLICY' }, rules, true).next,
    'dead',
    'a rule of the registry',
  );
  t.equal(failurePlan({ ...failure, code: 'WRITE_BACK_CONFLICT' }, rules, true).next, 'dead');
  const limited = { ...failure, code: 'UPSTREAM_LIMITED', retryAfterMs: 60_000 };
  t.same(failurePlan(limited, rules, true), { next: 60_000, tries: 0, pauses: true }, 'not before it says');
  t.same(failurePlan(limited, rules, false), { next: 60_000, tries: 1, pauses: true });
});
