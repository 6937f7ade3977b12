import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { listTags } from '../../src/records/tag-lists.ts';

const NAME = { upstream: 'up', repository: parseRepositoryName('team/app') };

t.test('all pages of an upstream are read, whatever it calls them', async (t) => {
  const pages: Readonly<Record<string, { tags: string[]; next?: string }>> = {
    '': { tags: ['c', 'a'], next: 'next_page=gAAA' },
    'next_page=gAAA': { tags: ['d'], next: 'next_page=gBBB' },
    'next_page=gBBB': { tags: ['b'], next: 'next_page=gBBB' },
  };
  const asked: string[] = [];
  const client = {
    listTags: async ({ page = '' }: { page?: string }) => {
      asked.push(page);
      return pages[page]!;
    },
  };
  const deps = { upstreams: { client: () => client, takesDeletes: () => false } };
  const found = await listTags(deps as unknown as Parameters<typeof listTags>[0], NAME, {});
  t.same(found, ['a', 'b', 'c', 'd']);
  t.same(asked, ['', 'next_page=gAAA', 'next_page=gBBB'], 'a page that leads to itself is the last');
});
