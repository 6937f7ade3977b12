import t from 'tap';
import { Health, PATIENCE_MS, type Rest, UNTIL_IT_ANSWERS } from '../../src/core/health.ts';
import { ownersOf, type RingMember } from '../../src/ring.ts';

/** A health whose clock the test turns. */
function made(rest: Rest): { readonly health: Health; at(ms: number): Health } {
  let nowMs = 0;
  const health = new Health(() => nowMs, rest);
  return {
    health,
    at(ms) {
      nowMs = ms;
      return health;
    },
  };
}

t.test('who failed is passed over, longer each time, and forgiven at the next answer', async (t) => {
  const { health, at } = made({ firstMs: 1_000, maxMs: 15_000 });
  health.failed('b');
  t.same(at(10).order(['b', 'a', 'c']), ['a', 'c', 'b']);
  t.same(health.suspects, ['b']);
  t.equal(at(1_001).isSuspect('b'), false);
  health.failed('b');
  t.equal(at(2_900).isSuspect('b'), true);
  at(3_000);
  for (let count = 0; count < 30; count++) health.failed('b');
  t.equal(at(17_999).isSuspect('b'), true);
  t.equal(at(18_001).isSuspect('b'), false, 'never for more than 15 s');
  at(3_000);
  t.equal(health.answered('b'), true);
  t.same(health.order(['b', 'a']), ['b', 'a']);
  t.equal(health.answered('b'), false, 'it had not failed since');
});

t.test('where suspects are asked: passed over until it answers', async (t) => {
  const { health, at } = made(UNTIL_IT_ANSWERS);
  t.same(health.order(['a', 'b', 'c']), ['a', 'b', 'c']);
  at(100).answered('a');
  health.failed('a');
  health.failed('b');
  t.same(at(1e12).order(['a', 'b', 'c']), ['c', 'a', 'b']);
  t.same(
    health.orderBy([{ id: 'b' }, { id: 'c' }], ({ id }) => id),
    [{ id: 'c' }, { id: 'b' }],
  );
  t.ok(at(150).aliveWithin('a', 50));
  t.notOk(at(151).aliveWithin('a', 50));
  t.notOk(at(0).aliveWithin('b', 1e9), 'never heard of');
  at(200).answered('a');
  t.notOk(health.isSuspect('a'));
});

t.test('silent: never heard of, or failing for longer than patience', async (t) => {
  const { health, at } = made(UNTIL_IT_ANSWERS);
  t.same(health.silent(['a', 'b']), ['a', 'b'], 'nobody was heard of yet');
  health.answered('a');
  t.same(at(1e9).silent(['a', 'b']), ['b'], 'time alone silences nobody');
  at(0).failed('a');
  t.same(at(PATIENCE_MS).silent(['a']), [], 'one slow answer');
  t.same(at(PATIENCE_MS + 1).silent(['a']), ['a']);
  at(PATIENCE_MS + 2).answered('a');
  t.same(health.silent(['a']), [], 'one answer ends it');
});

t.test(
  'gone: a suspect that failed for longer than patience; one that was slow just now is none',
  async (t) => {
    const { health, at } = made({ firstMs: 1_000, maxMs: 15_000 });
    t.notOk(health.isGone('a'), 'never heard of');
    at(1e6).failed('a');
    t.notOk(health.isGone('a'), 'it may not have answered for long: nobody had asked it');
    at(1e6 + PATIENCE_MS).failed('a');
    t.ok(health.isGone('a'));
    t.notOk(at(1e6 + PATIENCE_MS + 2_000).isGone('a'), 'it gets a chance where it is no suspect any more');
    health.failed('a');
    t.ok(health.isGone('a'));
    t.ok(health.answered('a'));
    health.failed('a');
    t.notOk(health.isGone('a'), 'it has answered since');
  },
);

t.test('probes go to suspects and to those of which no call told', async (t) => {
  const { health, at } = made(UNTIL_IT_ANSWERS);
  t.same(health.unheard(['a', 'b'], 100), ['a', 'b']);
  health.answered('a');
  at(50).answered('b');
  t.same(at(100).unheard(['a', 'b'], 100), []);
  t.same(at(101).unheard(['a', 'b'], 100), ['a']);
  health.failed('b');
  t.same(at(60).unheard(['a', 'b'], 100), ['b'], 'a suspect is asked each time');
});

t.test('7 origins, whichever are silent: an owner that answers leads, and is asked first', async (t) => {
  const members = Array.from(
    { length: 7 },
    (_, index): RingMember => ({ id: `o${index + 1}`, weight: 1, state: 'active' }),
  );
  const placements = Array.from({ length: 20 }, (_, index) => ownersOf(`key ${index}`, members));
  const wrong: string[] = [];
  for (let down = 0; down < 2 ** members.length; down++) {
    const { health } = made(UNTIL_IT_ANSWERS);
    const silent = members.map(({ id }) => id).filter((_, index) => (down & (1 << index)) !== 0);
    for (const id of silent) health.failed(id);
    for (const placement of placements) {
      const { owners, standIns } = placement;
      const awake = owners.filter((id) => !silent.includes(id));
      const leader = health.leader(placement);
      const tries = health.tries(placement);
      const where = `${silent.join(' ')} silent of ${owners.join(' ')}`;
      if (leader !== (awake[0] ?? owners[0])) wrong.push(`${leader} leads, ${where}`);
      if (awake.length > 0 && tries[0] !== leader) wrong.push(`${tries[0]} is asked first, ${where}`);
      const firstSilent = tries.findIndex((id) => silent.includes(id));
      if (firstSilent >= 0 && !tries.slice(firstSilent).every((id) => silent.includes(id)))
        wrong.push(`${tries.join(' ')} are asked, ${where}`);
      if ([...tries].sort().join() !== [...owners, ...standIns].sort().join())
        wrong.push(`${tries.join(' ')} are asked of ${owners.join(' ')} ${standIns.join(' ')}`);
    }
  }
  t.same(wrong, []);
});
