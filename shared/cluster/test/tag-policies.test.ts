import t from 'tap';
import { parseClusterDocument } from '../src/load-document.ts';

const MEMBER = { id: 'o1', role: 'origin', urls: ['http://127.0.0.1:1'] };

t.test('a bad pattern or policy in the cluster document is refused with its path', async (t) => {
  const document = (tags: object, mode = 'none'): string =>
    JSON.stringify({ version: 1, members: [MEMBER], upstreams: [{ name: 'local', mode, tags }] });
  for (const [tags, path] of [
    [
      { overrides: [{ repositories: ['a['], policy: 'pinned' }] },
      'upstreams.0.tags.overrides.0.repositories.0',
    ],
    [
      { overrides: [{ repositories: ['a'], tags: ['v1', '!x'], policy: 'pinned' }] },
      'upstreams.0.tags.overrides.0.tags.1',
    ],
    [
      { overrides: [{ repositories: ['b', '*a*a*a*b'], policy: 'pinned' }] },
      'upstreams.0.tags.overrides.0.repositories.1',
    ],
    [{ overrides: [{ repositories: [], policy: 'pinned' }] }, 'upstreams.0.tags.overrides.0.repositories'],
    [{ overrides: [{ repositories: ['a'], policy: 'fixed' }] }, 'upstreams.0.tags.overrides.0.policy'],
    [{ overrides: [{ repositories: ['a'], policy: 'revalidate' }] }, 'upstreams.0.tags.overrides.0.policy'],
    [{ policy: 'revalidate' }, 'upstreams.0.tags.policy'],
  ] as const)
    t.throws(() => parseClusterDocument(document(tags), 'cluster.yaml'), {
      code: 'CONFIG_INVALID',
      message: new RegExp(path.replaceAll('.', '\\.')),
    });
});
