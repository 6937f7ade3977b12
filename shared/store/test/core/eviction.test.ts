import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  budgetOf,
  decideEvictions,
  type EvictionCandidate,
  keepReason,
  mustEvict,
} from '../../src/core/eviction.ts';

const BUDGET = { budgetBytes: 1000, highWatermark: 0.9, lowWatermark: 0.5 };

function candidate(
  digest: string,
  over: Partial<EvictionCandidate['attrs']> & { open?: boolean } = {},
): EvictionCandidate {
  const { open = false, ...attrs } = over;
  return {
    digest,
    sizeBytes: 200,
    open,
    attrs: { class: 'cached', provenance: [], writtenBack: false, ...attrs },
  };
}

t.test('a config names bytes, and its watermarks as shares of them', async (t) => {
  t.same(budgetOf({ budget: 1_000, high: 0.9, low: 0.5 }), BUDGET);
});

t.test('eviction begins above the high watermark', async (t) => {
  t.notOk(mustEvict(900, BUDGET));
  t.ok(mustEvict(901, BUDGET));
  t.notOk(mustEvict(1e15, { ...BUDGET, budgetBytes: Number.POSITIVE_INFINITY }));
});

t.test('oldest first, each with its reason, down to the low watermark', async (t) => {
  const list = [
    candidate('open', { open: true }),
    candidate('waiting', { class: 'pushed' }),
    candidate('written-back', { class: 'pushed', writtenBack: true }),
    candidate('cached'),
    candidate('young'),
  ];
  t.same(decideEvictions(list, 900, BUDGET), [
    { digest: 'open', evict: false, reason: 'open' },
    { digest: 'waiting', evict: false, reason: 'not-written-back' },
    { digest: 'written-back', evict: true, reason: 'least-recently-used' },
    { digest: 'cached', evict: true, reason: 'least-recently-used' },
    { digest: 'young', evict: false, reason: 'low-watermark' },
  ]);
});

t.test('what must stay never goes', async (t) => {
  const one = fc.record({
    open: fc.boolean(),
    class: fc.constantFrom('pushed' as const, 'cached' as const),
    writtenBack: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(one), fc.nat(1e6), (list, used) => {
      const candidates = list.map((over, index) => candidate(`${index}`, over));
      const decisions = decideEvictions(candidates, used, BUDGET);
      return decisions.every(({ evict }, index) => !evict || keepReason(candidates[index]!) === undefined);
    }),
  );
  t.pass();
});
