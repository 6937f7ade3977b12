import t from 'tap';
import { quotaOf, quotaRules } from '../../../src/records/core/quota.ts';

t.test('the first rule that matches counts', (t) => {
  const rules = quotaRules([
    { repositories: ['team/big', 'team/huge/**'], size: 1_000 },
    { repositories: ['team/**'], size: 10 },
  ]);
  t.equal(quotaOf(rules, 'team/big'), 1_000);
  t.equal(quotaOf(rules, 'team/huge/a/b'), 1_000);
  t.equal(quotaOf(rules, 'team/other'), 10);
  t.equal(quotaOf(rules, 'elsewhere/app'), undefined);
  t.end();
});
