import t from 'tap';
import { apiUrl } from '../../src/core/api-url.ts';

t.test('the API of a registry lies below its path, said with /v2 or without', async (t) => {
  for (const [base, found] of [
    ['https://one.example', 'https://one.example/v2/team/app/tags/list'],
    ['https://one.example/', 'https://one.example/v2/team/app/tags/list'],
    ['https://one.example/v2/', 'https://one.example/v2/team/app/tags/list'],
    ['https://one.example:8443/docker/hub', 'https://one.example:8443/docker/hub/v2/team/app/tags/list'],
    ['https://one.example/docker/v2//', 'https://one.example/docker/v2/team/app/tags/list'],
  ] as const)
    t.equal(apiUrl(new URL(base), 'team/app/tags/list').href, found);
  t.equal(apiUrl(new URL('https://one.example/hub?x=1'), '').href, 'https://one.example/hub/v2/');
});
