import t from 'tap';
import { Verdict } from '../../src/async/verdict.ts';
import { CodedError } from '../../src/errors.ts';
import { bugsSeen, onLateBug } from '../../src/failure.ts';

t.test('the first outcome counts', async (t) => {
  const good = new Verdict<number>();
  good.give(1);
  good.give(2);
  good.fail(new CodedError('TIMEOUT'));
  t.equal(await good.outcome, 1);
  const bad = new Verdict<number>();
  bad.fail(new CodedError('TIMEOUT'));
  bad.give(1);
  await t.rejects(bad.outcome, { code: 'TIMEOUT' });
});

t.test('a bug that comes later is counted and told, another failure is not', async (t) => {
  const told: unknown[] = [];
  const end = onLateBug((bug) => told.push(bug));
  const before = bugsSeen();
  const one = new Verdict<number>();
  one.give(1);
  const bug = new TypeError('x is not a function');
  one.fail(new CodedError('PEER_HTTP'));
  t.same(told, []);
  one.fail(bug);
  t.same(told, [bug]);
  t.equal(bugsSeen(), before + 1);
  end();
  one.fail(bug);
  t.same(told, [bug]);
});
