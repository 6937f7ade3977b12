import t from 'tap';
import { FIRST_ANSWER_MS } from '../src/deadlines.ts';

t.test('who asks waits longer than who is asked, by what a busy member takes to say why', async (t) => {
  const { upstream, leader, origin, agent, join } = FIRST_ANSWER_MS;
  for (const [asked, asker] of [
    [upstream, leader],
    [leader, origin],
    [origin, agent],
    [agent, join],
  ] as const)
    t.ok(asker - asked >= 5_000, `${asker} for ${asked}`);
});
