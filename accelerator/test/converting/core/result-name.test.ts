import t from 'tap';
import { resultName } from '../../../src/converting/core/result-name.ts';

t.test('a result has its suffix, in the repository that the rule says', async (t) => {
  const rule = {
    to: 'estargz',
    result: 'tag',
    repository: '{repository}',
    'tag-suffix': '-estargz',
  } as const;
  t.same(resultName(rule, 'team/app', '1'), { repository: 'team/app', tag: '1-estargz' });
  t.same(
    resultName(
      { to: 'estargz', result: 'tag', repository: 'lazy/{repository}', 'tag-suffix': '' },
      'team/app',
      '1',
    ),
    {
      repository: 'lazy/team/app',
      tag: '1',
    },
  );
  t.match(resultName(rule, 'team/app', 'x'.repeat(125)), { wrong: /longer than 128/ });
  const beside = { ...rule, result: 'referrer' } as const;
  t.same(resultName(beside, 'team/app', '1'), { repository: 'team/app', tag: '1' }, 'a referrer has no name');
  t.match(resultName({ to: 'estargz', result: 'tag', repository: 'lazy', 'tag-suffix': '' }, 'lazy', '1'), {
    wrong: /replace its source/,
  });
});
