import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { GroupPick } from '../../../src/replication/core/group-pick.ts';

const LIMITS = { groups: 3, jobsOfGroup: 2, jobs: 10 };

t.test('jobs of one key are one group, in the order of the first of each', async (t) => {
  const pick = new GroupPick<number>(LIMITS, 1);
  const asked: string[] = [];
  const mayBegin = (job: number, key: string): boolean => asked.push(`${key}${job}`) > 1;
  pick.add('r', 'a', 1, mayBegin);
  pick.add('r', 'b', 2, mayBegin);
  pick.add('r', 'a', 3, mayBegin);
  pick.add('r', 'b', 4, mayBegin);
  pick.add('r', 'b', 5, mayBegin);
  t.same(pick.groups, [
    { key: 'b', jobs: [2, 4] },
    { key: 'a', jobs: [3] },
  ]);
  t.same(asked, ['a1', 'b2', 'a3'], 'asked of the first alone');
});

t.test('where there are no rules, nothing is divided by their number', async (t) => {
  const pick = new GroupPick<number>(LIMITS, 0);
  for (let at = 0; at < 4; at++) pick.add('r', `k${at}`, at, () => true);
  t.equal(pick.groups.length, LIMITS.groups);
});

t.test('it picks the first jobs that each limit leaves room for', async (t) => {
  const job = fc.record({ rule: fc.constantFrom('r', 'q'), key: fc.nat(5), may: fc.boolean() });
  const limits = fc.record({
    groups: fc.integer({ min: 1, max: 4 }),
    jobsOfGroup: fc.integer({ min: 1, max: 4 }),
    jobs: fc.integer({ min: 1, max: 12 }),
  });
  type Job = { readonly rule: string; readonly key: number; readonly may: boolean };
  fc.assert(
    fc.property(fc.array(job, { maxLength: 40 }), limits, (queue: Job[], most) => {
      const pick = new GroupPick<Job>(most, 2);
      // The plainest form of it: all that was kept so far is looked through for each job.
      const kept: Job[] = [];
      const isOf = (one: Job) => (other: Job) => other.rule === one.rule && other.key === one.key;
      for (const one of queue) {
        pick.add(one.rule, `${one.rule}${one.key}`, one, ({ may }) => may);
        const ofRule = kept.filter(({ rule }) => rule === one.rule);
        const ofGroup = kept.filter(isOf(one)).length;
        const groups = new Set(ofRule.map(({ key }) => key)).size;
        const hasRoom = ofGroup > 0 ? ofGroup < most.jobsOfGroup : groups < most.groups && one.may;
        if (ofRule.length < Math.ceil(most.jobs / 2) && hasRoom) kept.push(one);
      }
      const groups = [...new Set(kept.map(({ rule, key }) => `${rule}${key}`))].map((name) =>
        kept.filter(({ rule, key }) => `${rule}${key}` === name),
      );
      return JSON.stringify(pick.groups.map(({ jobs }) => jobs)) === JSON.stringify(groups);
    }),
  );
  t.pass('held');
});
