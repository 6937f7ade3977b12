import { writeFileSync } from 'node:fs';
import { hashSync } from '@node-rs/bcrypt';
import { silentLogger } from '@sepia/base/log';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Accounts, parseHtpasswd } from '../../src/accounts/accounts.ts';

const CLUSTER_KEY = Buffer.alloc(32, 7);
const line = (name: string, password: string, cost = 4): string =>
  `${name}:${hashSync(password, { cost, version: '2y' })}`;

function open(dir: string, text: string, clock = { nowMs: 0 }): { accounts: Accounts; file: string } {
  const file = `${dir}/htpasswd`;
  writeFileSync(file, text);
  const deps = { log: silentLogger(), nowMs: () => clock.nowMs, clusterKey: CLUSTER_KEY };
  return { accounts: new Accounts(deps, file), file };
}

t.test('right, wrong and unknown', async (t) => {
  const { accounts } = open(t.testdir(), `# comment\n${line('ann', 'p:ä ß')}\n\n${line('ben', 'x')}\n`);
  t.equal(accounts.size, 2);
  t.equal(await accounts.verify({ username: 'ann', password: 'p:ä ß' }), true);
  t.equal(accounts.remembers({ username: 'ann', password: 'p:ä ß' }), true);
  t.equal(accounts.remembers({ username: 'ann', password: 'x' }), false);
  for (const [username, password] of [
    ['ann', 'x'],
    ['ben', 'p:ä ß'],
    ['eve', 'x'],
    ['', ''],
    ['ann', 'x'.repeat(10_000)],
  ] as const)
    t.equal(await accounts.verify({ username, password }), false, `${username} ${password.slice(0, 10)}`);
});

t.test('the file is read again when it changes; what is wrong in it changes nothing', async (t) => {
  const clock = { nowMs: 0 };
  const { accounts, file } = open(t.testdir(), line('ann', 'old'), clock);
  const fingerprint = accounts.fingerprint;
  t.equal(await accounts.verify({ username: 'ann', password: 'old' }), true);
  writeFileSync(file, `${line('ann', 'new')}\n# changed\n`);
  clock.nowMs += 3_000;
  t.equal(accounts.remembers({ username: 'ann', password: 'old' }), false, 'not remembered beyond its line');
  t.equal(await accounts.verify({ username: 'ann', password: 'old' }), false);
  t.equal(await accounts.verify({ username: 'ann', password: 'new' }), true);
  t.not(accounts.fingerprint, fingerprint);
  writeFileSync(file, 'nonsense without a colon and longer');
  clock.nowMs += 3_000;
  t.equal(await accounts.verify({ username: 'ann', password: 'new' }), true);
});

t.test('a name that is gone is still known as own for an hour; an empty file changes nothing', async (t) => {
  const clock = { nowMs: 0 };
  const { accounts, file } = open(t.testdir(), `${line('ann', 'a')}\n${line('ben', 'b')}\n`, clock);
  t.equal(accounts.hadLately('eve'), false);
  writeFileSync(file, '');
  clock.nowMs += 3_000;
  t.equal(await accounts.verify({ username: 'ann', password: 'a' }), true, 'rewritten in place');
  t.equal(accounts.size, 2);
  writeFileSync(file, `${line('ann', 'a')}\n`);
  clock.nowMs += 3_000;
  t.equal(accounts.has('ben'), false);
  t.equal(accounts.hadLately('ben'), true, 'half written, or taken out a moment ago');
  t.equal(accounts.isGone('ben'), false, 'as long as the file may be half written');
  clock.nowMs += 3_000;
  t.equal(accounts.isGone('ben'), true);
  for (const other of ['ann', 'eve']) t.equal(accounts.isGone(other), false, other);
  clock.nowMs += 60 * 60_000;
  t.equal(accounts.hadLately('ben'), false);
  t.equal(accounts.hadLately('ann'), true);
});

t.test('many logins at once: a few are computed, the event loop goes on, too many are told', async (t) => {
  const { accounts } = open(t.testdir(), line('ann', 'right', 8));
  let turns = 0;
  const turning = setInterval(() => {
    turns += 1;
  }, 1);
  const logins = Array.from({ length: 100 }, (_, at) =>
    accounts.verify({ username: 'ann', password: `wrong-${at}` }).then(
      () => 'no',
      (error: { code: string }) => error.code,
    ),
  );
  const ends = await Promise.all(logins);
  clearInterval(turning);
  t.equal(ends.filter((end) => end === 'no').length, 66, 'two at once and 64 that wait');
  t.equal(ends.filter((end) => end === 'OVERLOADED').length, 34);
  t.ok(turns > 20, `the loop turned ${turns} times`);
  t.equal(await accounts.verify({ username: 'ann', password: 'right' }), true);
});

t.test(
  'a line that cannot be used stops the start and is named by its number, not its content',
  async (t) => {
    const good = line('ann', 'x');
    const cases: [string, RegExp][] = [
      [`${good}\nben`, /line 2 is not name:hash/],
      [`${good}\n${good}`, /line 2 names an account twice/],
      ['ben:$apr1$abc$def', /line 1 has no bcrypt hash/],
      ['ben:plain-secret', /line 1 has no bcrypt hash/],
      [`ben:${'$2y$05$'}${'a'.repeat(53)}`, /line 1 has no bcrypt hash/],
      [good.replace('ann', 'anonymous'), /line 1 has a name that rules keep/],
      [good.replace('ann', '*'), /line 1 has a name that rules keep/],
      [good.replace('$2y$04$', '$2y$20$'), /line 1 has cost 20/],
    ];
    for (const [text, message] of cases) {
      t.throws(() => parseHtpasswd(text, 'file'), { code: 'CONFIG_INVALID', message });
      try {
        parseHtpasswd(text, 'file');
      } catch (error) {
        t.notMatch((error as Error).message, /secret|\$2y\$05|apr1/);
      }
    }
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseHtpasswd(`ann:${text}`, 'file');
          parseHtpasswd(text, 'file');
        } catch (error) {
          return (error as { code?: string }).code === 'CONFIG_INVALID';
        }
        return true;
      }),
      { interruptAfterTimeLimit: 2_000, markInterruptAsFailure: false },
    );
  },
);

t.test('a password that waits while its account comes is not remembered of one that is gone', async (t) => {
  const clock = { nowMs: 0 };
  const ann = line('ann', 'right');
  const { accounts, file } = open(t.testdir(), ann, clock);
  const eve = { username: 'eve', password: 'secret' };
  // Two are computed at once; the third waits for its turn, and finds another file then.
  const waiting = [1, 2].map(
    async (at) => await accounts.verify({ username: 'ann', password: `wrong-${at}` }),
  );
  const asked = accounts.verify(eve);
  writeFileSync(file, `${ann}\n${line('eve', 'secret')}\n`);
  clock.nowMs += 3_000;
  t.ok(accounts.has('eve'));
  t.equal(await asked, true, 'it is an account by now');
  await Promise.all(waiting);
  t.ok(accounts.remembers(eve));
  writeFileSync(file, `${ann}\n`);
  clock.nowMs += 3_000;
  t.notOk(accounts.remembers(eve), 'it went');
  t.equal(await accounts.verify(eve), false);
});
