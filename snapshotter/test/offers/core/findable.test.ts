import { type Digest, digestOf } from '@sepia/base/digest';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { type Claim, Findable } from '../../../src/offers/core/findable.ts';

const id = (text: string): Digest => digestOf(Buffer.from(text));
const DAY_MS = 24 * 60 * 60_000;

function claim(layer: string, diffId: string): Claim {
  const name = { upstream: 'local', repository: 'team/app', manifest: id('m'), part: 'layer' as const };
  return { digest: id(layer), sizeBytes: 1, diffId: id(diffId), ...name };
}

t.test('a claim keeps its diffID from being shown for a day', async (t) => {
  const findable = new Findable();
  findable.claim([claim('evil', 'd')], 5);
  const nothing = (): undefined => undefined;
  t.match(findable.show([id('other'), id('d')], nothing, 6), {
    isShown: false,
    claims: [{ digest: id('evil') }],
  });
  t.notOk(findable.isShown(id('other')), 'all or none');
  t.same(findable.show([id('d')], nothing, 5 + DAY_MS), { isShown: true, claims: [] });
  t.ok(findable.isShown(id('d')));
});

t.test('what is shown goes on being shown, whoever claims it then', async (t) => {
  const findable = new Findable([id('d')]);
  findable.claim([claim('evil', 'd')], 0);
  t.ok(findable.show([id('d')], () => undefined, 1).isShown);
});

t.test('claims beyond what can be kept push none out: nothing new is shown for a day', async (t) => {
  const findable = new Findable([], 2);
  findable.claim([claim('evil', 'd'), claim('a', 'x'), claim('b', 'y')], 0);
  const nothing = (): undefined => undefined;
  t.match(findable.show([id('d')], nothing, 1), { isShown: false, claims: [{ digest: id('evil') }] });
  t.same(findable.show([id('other')], nothing, 1), { isShown: false, claims: [] });
  findable.claim([claim('c', 'z')], DAY_MS);
  t.ok(findable.show([id('other'), id('d')], nothing, DAY_MS).isShown, 'the old ones made room');
  t.notOk(findable.show([id('z')], nothing, DAY_MS).isShown);
});

t.test('in any order: nothing is shown that somebody under way claims falsely', async () => {
  const name = fc.constantFrom('a', 'b', 'c', 'd');
  const step = fc.oneof(
    fc.record({ type: fc.constant('claim' as const), layer: name, diffId: name }),
    fc.record({
      type: fc.constant('show' as const),
      diffIds: fc.array(name, { minLength: 1, maxLength: 3 }),
    }),
    fc.record({ type: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: DAY_MS }) }),
  );
  const truth = fc.dictionary(name, name);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), truth, (steps, holds) => {
      const findable = new Findable([], 3);
      const held = new Map(Object.entries(holds).map(([layer, diffId]) => [id(layer), id(diffId)]));
      const open = new Map<string, number>();
      const shown = new Set<string>();
      let nowMs = 0;
      for (const one of steps) {
        if (one.type === 'wait') nowMs += one.ms;
        else if (one.type === 'claim') {
          // The judge refuses an image that claims what is shown.
          if (findable.isShown(id(one.diffId))) continue;
          findable.claim([claim(one.layer, one.diffId)], nowMs);
          if (holds[one.layer] !== one.diffId) open.set(`${one.layer} ${one.diffId}`, nowMs + DAY_MS);
        } else {
          const found = findable.show(one.diffIds.map(id), ({ digest }) => held.get(digest), nowMs);
          if (found.isShown) for (const diffId of one.diffIds) shown.add(diffId);
          else if (one.diffIds.some((diffId) => !shown.has(diffId) && findable.isShown(id(diffId))))
            return false;
        }
        for (const [key, untilMs] of open)
          if (untilMs <= nowMs) open.delete(key);
          else if (shown.has(key.split(' ')[1]!)) return false;
      }
      return [...shown].every((diffId) => findable.isShown(id(diffId)));
    }),
  );
});

t.test('what made room is judged anew before it is shown again', async (t) => {
  const findable = new Findable([id('d')]);
  findable.hidden(id('d'));
  t.notOk(findable.isShown(id('d')));
  findable.claim([claim('evil', 'd')], 0);
  t.notOk(findable.show([id('d')], () => undefined, 1).isShown);
});
