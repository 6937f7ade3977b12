import t from 'tap';
import { LoginGuard } from '../../src/access/login-guard.ts';

t.test('guesses at once are tried one after the other, and refused after the third', async (t) => {
  const guard = new LoginGuard({ nowMs: () => 0 });
  let tried = 0;
  let together = 0;
  let limited = 0;
  const guess = async (): Promise<string> =>
    await guard
      .run(
        { account: 'ann', address: '10.0.0.1', password: 'p' },
        async () => {
          together += 1;
          t.equal(together, 1);
          await new Promise((resolve) => setImmediate(resolve));
          together -= 1;
          tried += 1;
          return { isRight: false, value: 'wrong' };
        },
        () => {
          limited += 1;
        },
      )
      .catch((error: { code: string }) => error.code);
  const outcomes = await Promise.all(Array.from({ length: 60 }, guess));
  t.equal(tried, 3);
  t.equal(limited, 57);
  t.equal(outcomes.filter((one) => one === 'OVERLOADED').length, 57);
});

t.test('what fails for another reason counts as nothing; others are not held up', async (t) => {
  const guard = new LoginGuard({ nowMs: () => 0 });
  const ann = { account: 'ann', address: '10.0.0.1', password: 'p' };
  for (let at = 0; at < 10; at++)
    await t.rejects(
      guard.run(ann, async () => {
        throw new Error('the upstream is down');
      }),
    );
  t.same(await guard.show(ann, async () => ({ verdict: 'granted', ttlMs: 1 })), {
    verdict: 'granted',
    ttlMs: 1,
  });
  for (let at = 0; at < 3; at++)
    await guard.show(ann, async () => ({ verdict: 'challenge', challenge: { scheme: 'basic' } }));
  await t.rejects(
    guard.show(ann, async () => ({ verdict: 'granted', ttlMs: 1 })),
    { code: 'OVERLOADED' },
  );
  const ben = { account: 'ben', address: '10.0.0.1', password: 'p' };
  t.ok(await guard.show(ben, async () => ({ verdict: 'granted', ttlMs: 1 })));
});

t.test('a password that was right within a day never waits, until it is wrong', async (t) => {
  let nowMs = 0;
  const guard = new LoginGuard({ nowMs: () => nowMs });
  const right = { account: 'ann', address: '10.0.0.1', password: 'right' };
  const login = async (password: string, truth = 'right'): Promise<boolean> =>
    await guard.run({ ...right, password }, async () => {
      const isRight = password === truth;
      return { isRight, value: isRight };
    });
  t.equal(await login('right'), true);
  nowMs += 23 * 3_600_000;
  for (let at = 0; at < 3; at++) t.equal(await login(`guess-${at}`), false);
  await t.rejects(login('guess-4'), { code: 'OVERLOADED' });
  const many = await Promise.all(Array.from({ length: 40 }, async () => await login('right')));
  t.ok(many.every(Boolean), 'whoever guesses at the same address');
  for (let at = 0; at < 3; at++) await login(`guess-${at}`).catch(() => undefined);
  nowMs += 30_000;
  t.equal(await login('right', 'changed'), false, 'it was changed');
  await t.rejects(login('right', 'changed'), { code: 'OVERLOADED' }, 'and waits like any other');
});
