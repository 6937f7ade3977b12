import t from 'tap';
import { OriginHealth, PATIENCE_MS } from '../../../src/cluster/core/origin-health.ts';

t.test('health orders the tries and forgets at the next answer', async (t) => {
  const health = new OriginHealth();
  t.same(health.order(['a', 'b', 'c']), ['a', 'b', 'c']);
  health.ok('a', 100);
  health.failed('a');
  health.failed('b');
  t.same(health.order(['a', 'b', 'c']), ['c', 'a', 'b']);
  t.ok(health.aliveWithin('a', 50, 150));
  t.notOk(health.aliveWithin('a', 50, 151));
  t.notOk(health.aliveWithin('b', 1e9, 0), 'never heard of');
  health.ok('a', 200);
  t.notOk(health.isSuspect('a'));
});

t.test('silent: never heard of, or failing for longer than patience', async (t) => {
  const health = new OriginHealth();
  t.same(health.silent(['a', 'b'], 0), ['a', 'b'], 'nobody was heard of yet');
  health.ok('a', 0);
  t.same(health.silent(['a', 'b'], 1e9), ['b'], 'time alone silences nobody');
  health.failed('a');
  t.same(health.silent(['a'], PATIENCE_MS), [], 'one slow answer');
  t.same(health.silent(['a'], PATIENCE_MS + 1), ['a']);
  health.ok('a', PATIENCE_MS + 2);
  t.same(health.silent(['a'], PATIENCE_MS + 2), [], 'one answer ends it');
});

t.test('probes go to suspects and to those of which no call told', async (t) => {
  const health = new OriginHealth();
  t.same(health.unheard(['a', 'b'], 100, 0), ['a', 'b']);
  health.ok('a', 0);
  health.ok('b', 50);
  t.same(health.unheard(['a', 'b'], 100, 100), []);
  t.same(health.unheard(['a', 'b'], 100, 101), ['a']);
  health.failed('b');
  t.same(health.unheard(['a', 'b'], 100, 60), ['b'], 'a suspect is asked each time');
});
