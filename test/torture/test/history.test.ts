import t from 'tap';
import { History } from '../history.ts';

const A = 'sha256:a';
const B = 'sha256:b';

function historyOf(): History {
  const history = new History();
  for (const digest of [A, B]) history.sentManifest(digest, []);
  return history;
}

t.test('a tag that was set and acknowledged must be seen', async (t) => {
  const history = historyOf();
  history.begin('v1', A, 10)('done', 20);
  t.equal(history.read('v1', A, 30, 31), 'ok');
  t.equal(history.read('v1', '', 30, 31), 'lost');
  t.equal(history.read('v1', '', 15, 25), 'ok', 'a read that began before the answer may see either');
  t.equal(history.read('v1', 'sha256:c', 30, 31), 'corrupt', 'nobody ever sent that');
});

t.test('what was overwritten is stale, from the answer on', async (t) => {
  const history = historyOf();
  history.begin('v1', A, 10)('done', 20);
  history.begin('v1', B, 30)('done', 40);
  t.equal(history.read('v1', A, 35, 50), 'ok');
  t.equal(history.read('v1', A, 41, 50), 'stale');
  t.equal(history.read('v1', B, 41, 50), 'ok');
});

t.test('of two at once either stands', async (t) => {
  const history = historyOf();
  const first = history.begin('v1', A, 10);
  const second = history.begin('v1', B, 12);
  first('done', 20);
  second('done', 22);
  for (const value of [A, B]) t.equal(history.read('v1', value, 30, 31), 'ok');
});

t.test('what is in doubt may have happened, or happen at any time', async (t) => {
  const history = historyOf();
  history.begin('v1', A, 10)('done', 20);
  history.begin('v1', B, 30)('doubt', 40);
  for (const value of [A, B]) t.equal(history.read('v1', value, 50, 51), 'ok');
  history.begin('v1', A, 60)('done', 70);
  t.equal(history.read('v1', B, 80, 81), 'ok', 'a halted member may still do it');
});

t.test('what was refused did not happen', async (t) => {
  const history = historyOf();
  history.begin('v1', A, 10)('done', 20);
  history.begin('v1', B, 30)('refused', 40);
  t.equal(history.read('v1', B, 50, 51), 'stale');
  t.equal(history.read('v1', A, 50, 51), 'ok');
});

t.test('a delete that was acknowledged stays', async (t) => {
  const history = historyOf();
  history.begin('v1', A, 10)('done', 20);
  history.begin('v1', '', 30)('done', 40);
  t.equal(history.read('v1', '', 50, 51), 'ok');
  t.equal(history.read('v1', A, 50, 51), 'stale');
});
