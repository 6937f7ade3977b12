import { AnswerPace } from '@sepia/http/answer-pace';
import t from 'tap';
import { POLL_MS } from '../../../src/deadlines.ts';
import { graceMs, LeaderWait } from '../../../src/metainfo/core/leader-wait.ts';

t.test('a poll is late soon after its own wait, and later where answers take long', (t) => {
  const pace = new AnswerPace();
  const wait = new LeaderWait(pace);
  t.same(wait.next(), { lateMs: 150, goneMs: POLL_MS + 1_200 });
  for (let poll = 0; poll < 50; poll++) wait.answered(POLL_MS + (poll % 2 === 0 ? 100 : 500), false);
  const slow = wait.next();
  t.ok(slow.lateMs! > 500 && slow.lateMs! <= 600, `${slow.lateMs} ms`);
  t.ok(slow.goneMs >= POLL_MS + slow.lateMs! && slow.goneMs <= POLL_MS + 4_000, `${slow.goneMs} ms`);
  for (let poll = 0; poll < 100; poll++) wait.answered(POLL_MS + 1, false);
  t.same(wait.next(), { lateMs: 150, goneMs: POLL_MS + 1_200 }, 'and back');
  t.end();
});

t.test('how long news took says nothing of how fast answers are', (t) => {
  const wait = new LeaderWait(new AnswerPace());
  const before = wait.next();
  for (let poll = 0; poll < 50; poll++) wait.answered(poll * 5, true);
  t.same(wait.next(), before);
  t.end();
});

t.test('of a leader that is always late but answers, few are asked in vain', (t) => {
  const wait = new LeaderWait(new AnswerPace());
  let looks = 0;
  for (let poll = 0; poll < 1_000; poll++) {
    if (wait.next().lateMs !== undefined) {
      wait.looked();
      looks += 1;
    }
    wait.answered(0, true);
  }
  t.ok(looks <= 56, `${looks} looks beside 1000 polls`);
  t.end();
});

t.test('looks that found a leader silent cost nothing', (t) => {
  const wait = new LeaderWait(new AnswerPace());
  for (let dead = 0; dead < 100; dead++) {
    t.not(wait.next().lateMs, undefined);
    wait.looked();
    wait.found();
  }
  t.end();
});

t.test('the leader is waited for by how long the others took', (t) => {
  t.equal(graceMs(0), 600);
  t.equal(graceMs(10), 590);
  t.equal(graceMs(200), 1_400, 'eight times as long');
  t.equal(graceMs(900), 3_100);
  t.equal(graceMs(5_000), 0);
  t.equal(graceMs(10, 150), 140, 'where less is enough');
  t.end();
});
