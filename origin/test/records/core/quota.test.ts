import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { QUOTA_HOLD_MS } from '../../../src/deadlines/members.ts';
import { QuotaHolds, quotaOf, quotaRules } from '../../../src/records/core/quota.ts';

const NOTHING = { bytes: 0, records: 0, tags: 0, largest: 0 };

t.test('the first rule that matches counts', async (t) => {
  const rules = quotaRules([
    { repositories: ['team/big', 'team/huge/**'], size: 1_000, tags: 3 },
    { repositories: ['team/**'], size: 10 },
    { repositories: ['few/**'], records: 2 },
  ]);
  t.same(quotaOf(rules, 'team/big'), { bytes: 1_000, tags: 3 });
  t.same(quotaOf(rules, 'team/huge/a/b'), { bytes: 1_000, tags: 3 });
  t.same(quotaOf(rules, 'team/other'), { bytes: 10 });
  t.same(quotaOf(rules, 'few/x'), { records: 2 });
  t.equal(quotaOf(rules, 'elsewhere/app'), undefined);
});

t.test('pushes at once count together, the same content once', async (t) => {
  const holds = new QuotaHolds();
  const limits = { bytes: 10 };
  t.equal(holds.take({ id: 'a', sizeBytes: 6 }, NOTHING, limits, 0), undefined);
  t.equal(holds.take({ id: 'b', sizeBytes: 5 }, NOTHING, limits, 0), 'bytes');
  t.equal(holds.take({ id: 'a', sizeBytes: 5, digest: 'x' }, NOTHING, limits, 0), undefined, 'renewed');
  t.equal(holds.take({ id: 'b', sizeBytes: 5, digest: 'x' }, NOTHING, limits, 0), undefined, 'the same');
  t.equal(holds.take({ id: 'c', sizeBytes: 5, digest: 'y' }, NOTHING, limits, 0), undefined);
  t.equal(holds.take({ id: 'd', sizeBytes: 1 }, NOTHING, limits, 0), 'bytes');
  holds.arrived({ digest: 'x' });
  t.equal(holds.take({ id: 'd', sizeBytes: 1 }, { ...NOTHING, bytes: 5 }, limits, 0), 'bytes');
  holds.release('c');
  t.equal(holds.take({ id: 'd', sizeBytes: 1 }, { ...NOTHING, bytes: 5 }, limits, 0), undefined);
  t.equal(holds.take({ id: 'e', sizeBytes: 9 }, NOTHING, limits, QUOTA_HOLD_MS), undefined, 'holds expire');
});

t.test('what may be there already is received, and judged when it is known what it is', async (t) => {
  const holds = new QuotaHolds();
  const full = { bytes: 10, records: 2, tags: 0, largest: 6 };
  t.equal(holds.take({ id: 'a', sizeBytes: 6 }, full, { bytes: 10 }, 0), undefined);
  t.equal(holds.take({ id: 'b', sizeBytes: 7 }, full, { bytes: 10 }, 0), 'bytes');
  t.equal(
    holds.take({ id: 'b', sizeBytes: 6 }, full, { bytes: 10 }, 0),
    'bytes',
    'never more than the quota',
  );
  t.equal(holds.take({ id: 'a', sizeBytes: 6, digest: 'x' }, full, { bytes: 10 }, 0), 'bytes');
});

t.test('tags and records have their own limits', async (t) => {
  const holds = new QuotaHolds();
  const limits = { records: 2, tags: 1 };
  t.equal(holds.take({ id: 't1', tag: 'v1' }, NOTHING, limits, 0), undefined);
  t.equal(holds.take({ id: 'other push', tag: 'v1' }, NOTHING, limits, 0), undefined, 'the same tag');
  t.equal(holds.take({ id: 't2', tag: 'v2' }, NOTHING, limits, 0), 'tags');
  t.equal(holds.take({ id: 'a', sizeBytes: 1 }, { ...NOTHING, records: 1 }, limits, 0), undefined);
  t.equal(holds.take({ id: 'b', sizeBytes: 1 }, { ...NOTHING, records: 1 }, limits, 0), 'records');
  holds.arrived({ tag: 'v1' });
  t.equal(holds.take({ id: 't2', tag: 'v2' }, { ...NOTHING, tags: 1 }, limits, 0), 'tags');
});

t.test('whatever comes in whatever order, what is on record never passes the limit', async (t) => {
  const step = fc.record({
    id: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    sizeBytes: fc.nat(8),
    digest: fc.constantFrom('x', 'y', 'z', 'u', 'v'),
    lands: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.nat(30), (steps, bytes) => {
      const holds = new QuotaHolds();
      const sizes = new Map(['x', 'y', 'z', 'u', 'v'].map((digest, index) => [digest, index * 3 + 1]));
      const linked = new Set<string>();
      const open = new Map<string, string>();
      for (const { id, digest, lands } of steps) {
        const used = [...linked].reduce((sum, one) => sum + sizes.get(one)!, 0);
        if (used > bytes) return false;
        const landing = open.get(id);
        if (lands && landing !== undefined) {
          linked.add(landing);
          holds.arrived({ digest: landing });
          for (const [other, held] of open) if (held === landing) open.delete(other);
          continue;
        }
        if (linked.has(digest)) continue;
        const usage = { ...NOTHING, bytes: used };
        if (holds.take({ id, digest, sizeBytes: sizes.get(digest)! }, usage, { bytes }, 0) === undefined)
          open.set(id, digest);
      }
      return true;
    }),
  );
  t.pass('held');
});
