import t from 'tap';
import { broughtOf, broughtText, knowsPushes } from '../../../src/blobs/core/brought-by.ts';

t.test('what brought a blob goes with its copy, one of each upstream first, within a limit', async (t) => {
  const brought = [
    { upstream: 'a', repository: 'team/x' },
    { upstream: 'a', repository: 'team/y' },
    { upstream: 'b', repository: 'team/x' },
  ];
  t.equal(broughtText(brought), 'a/team/x,b/team/x,a/team/y');
  t.same(broughtOf(broughtText(brought)), [brought[0], brought[2], brought[1]]);
  t.same(broughtOf(''), [], 'a member of an older version does not say');
  const many = Array.from({ length: 256 }, (_, at) => ({
    upstream: 'a',
    repository: `${'r'.repeat(100)}${at}`,
  }));
  const text = broughtText([...many, { upstream: 'z', repository: 'last' }]);
  t.ok(text.length <= 6_144);
  t.match(broughtOf(text)[1], { upstream: 'z' });
  for (const bad of ['x', '/a', 'a/', 'a/B', 'a/x,'])
    t.throws(() => broughtOf(bad), { code: 'REQUEST_INVALID' }, bad);
});

t.test('a member knows of pushes by every upstream that keeps them', async (t) => {
  const brought = ['local', 'hub', 'other'].map((upstream) => ({ upstream, repository: 'x' }));
  const keeps = (upstream: string): boolean => upstream !== 'local';
  const where = { state: 'final', class: 'pushed' } as const;
  t.equal(knowsPushes({ ...where, upstreams: ['hub', 'other'] }, brought, keeps), true);
  t.equal(knowsPushes({ ...where, upstreams: ['local', 'hub'] }, brought, keeps), false);
  t.equal(knowsPushes(where, brought, keeps), true, 'of an older version');
  t.equal(knowsPushes({ ...where, class: 'cached' }, brought, keeps), false);
  t.equal(knowsPushes({ state: 'none' }, [], keeps), false);
});
