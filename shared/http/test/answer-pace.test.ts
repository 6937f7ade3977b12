import t from 'tap';
import { AnswerPace } from '../src/answer-pace.ts';

t.test('fast answers keep the least deadline', async (t) => {
  const pace = new AnswerPace();
  t.equal(pace.timeoutMs(900, 4000), 900);
  for (let at = 0; at < 50; at++) pace.note(5);
  t.equal(pace.timeoutMs(900, 4000), 900);
});

t.test('slow and uneven answers stretch it, up to the most', async (t) => {
  const pace = new AnswerPace();
  for (let at = 0; at < 50; at++) pace.note(at % 2 === 0 ? 50 : 600);
  const stretched = pace.timeoutMs(900, 4000);
  t.ok(stretched > 1500 && stretched <= 4000, String(stretched));
  for (let at = 0; at < 50; at++) pace.note(5000);
  t.equal(pace.timeoutMs(900, 4000), 4000);
});

t.test('it recovers when answers are fast again', async (t) => {
  const pace = new AnswerPace();
  pace.note(3000);
  for (let at = 0; at < 100; at++) pace.note(2);
  t.equal(pace.timeoutMs(900, 4000), 900);
});
