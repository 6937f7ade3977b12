import t from 'tap';
import { LoginLimits } from '../../src/access/login-limits.ts';

t.test('each further failure of an account from an address doubles the pause, up to a minute', async (t) => {
  const limits = new LoginLimits();
  const pauses: number[] = [];
  for (let at = 0; at < 12; at++) {
    limits.failed('ann', '10.0.0.1', 0);
    pauses.push(limits.waitMs('ann', '10.0.0.1', 0));
  }
  t.same(pauses.slice(0, 9), [0, 0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
  t.equal(Math.max(...pauses), 60_000);
  t.equal(limits.waitMs('ben', '10.0.0.1', 0), 0, 'another account');
  t.equal(limits.waitMs('ann', '10.0.0.2', 0), 0, 'from elsewhere');
  t.equal(limits.waitMs('ann', '10.0.0.1', 59_000), 1_000);
  limits.succeeded('ann', '10.0.0.1', 0);
  t.equal(limits.waitMs('ann', '10.0.0.1', 0), 0, 'the right password clears it');
});

t.test('one address with many accounts is slowed as well', async (t) => {
  const limits = new LoginLimits();
  for (let at = 0; at < 25; at++) limits.failed(`user${at}`, '10.0.0.1', 0);
  t.ok(limits.waitMs('somebody', '10.0.0.1', 0) > 0);
  t.equal(limits.waitMs('somebody', '10.0.0.2', 0), 0);
});

t.test('the addresses of one IPv6 host count as one', async (t) => {
  const limits = new LoginLimits();
  for (let at = 0; at < 25; at++) limits.failed(`user${at}`, `2001:db8:0:1::${at}`, 0);
  t.ok(limits.waitMs('somebody', '2001:db8:0:1:ffff::1', 0) > 0);
  t.equal(limits.waitMs('somebody', '2001:db8:0:2::1', 0), 0, 'another network');
});

t.test(
  'an account that all the world guesses is slowed for 5 s at most: nobody can lock it out',
  async (t) => {
    const limits = new LoginLimits();
    for (let at = 0; at < 1_000; at++) limits.failed('ann', `10.0.${at >> 8}.${at & 255}`, 0);
    t.equal(limits.waitMs('ann', '192.168.0.1', 0), 5_000);
    limits.succeeded('ann', '192.168.0.1', 0);
    limits.failed('ann', '10.9.9.9', 0);
    t.equal(
      limits.waitMs('ann', '192.168.0.1', 0),
      0,
      'who logged in from there before is not slowed at all',
    );
  },
);

t.test('after ten minutes of peace it is forgotten; the memory has a limit', async (t) => {
  const limits = new LoginLimits();
  for (let at = 0; at < 5; at++) limits.failed('ann', 'a', 0);
  limits.failed('ann', 'a', 10 * 60_000);
  t.equal(limits.waitMs('ann', 'a', 10 * 60_000), 0, 'counted from the beginning');
  for (let at = 0; at < 40_000; at++) limits.failed(`user${at}`, `address${at}`, 0);
  t.ok(limits.keys <= 30_000, `${limits.keys} keys`);
});
