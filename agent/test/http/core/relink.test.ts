import t from 'tap';
import { relink, renamed } from '../../../src/http/core/relink.ts';

t.test('a link to the next page leads back to this node', async (t) => {
  const link = '</v2/library/app/tags/list?n=2&last=b%2B>; rel="next"';
  t.equal(
    relink(link, '/v2/app/tags/list', 'docker.io'),
    '</v2/app/tags/list?n=2&last=b%2B&ns=docker.io>; rel="next"',
  );
  t.equal(relink(link, '/v2/app/tags/list', undefined), '</v2/app/tags/list?n=2&last=b%2B>; rel="next"');
  for (const none of [undefined, '', '</v2/x>; rel="next"', '</v2/x?n=1>; rel="prev"', 'nonsense'])
    t.equal(relink(none, '/v2/app/tags/list', undefined), undefined, `${none}`);
});

t.test('a list of tags names the repository as its client does', async (t) => {
  const list = '{"name":"library/app","tags":["1"]}';
  t.equal(renamed(list, 'docker.io/app'), '{"name":"docker.io/app","tags":["1"]}');
  t.equal(renamed(list, 'library/app'), list);
  for (const other of ['null', '[]', '{"repositories":[]}']) t.equal(renamed(other, 'app'), other);
});
