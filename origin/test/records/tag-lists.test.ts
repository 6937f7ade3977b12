import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { listTags } from '../../src/records/tag-lists.ts';

const NAME = { upstream: 'up', repository: parseRepositoryName('team/app') };

type Deps = Parameters<typeof listTags>[0];
type Page = { readonly tags: readonly string[]; readonly next?: string };

/** An upstream whose page of that name is what `pageOf` says; the first has none. */
function upstream(pageOf: (page: string) => Page): { readonly deps: Deps; readonly asked: string[] } {
  const asked: string[] = [];
  const client = {
    listTags: async ({ page = '' }: { page?: string }) => {
      asked.push(page);
      return pageOf(page);
    },
  };
  const deps = { upstreams: { client: () => client, takesDeletes: () => false } };
  return { deps: deps as unknown as Deps, asked };
}

t.test('all pages of an upstream are read, whatever it calls them', async (t) => {
  const pages: Readonly<Record<string, Page>> = {
    '': { tags: ['c', 'a'], next: 'next_page=gAAA' },
    'next_page=gAAA': { tags: ['d'], next: 'next_page=gBBB' },
    'next_page=gBBB': { tags: ['b'], next: 'next_page=gBBB' },
  };
  const { deps, asked } = upstream((page) => pages[page]!);
  const found = await listTags(deps, NAME, {});
  t.same(found, ['a', 'b', 'c', 'd']);
  t.same(asked, ['', 'next_page=gAAA', 'next_page=gBBB'], 'a page that leads to itself is the last');
});

t.test(
  'a list of more than a hundred small pages is read to its end; one that goes round, once',
  async (t) => {
    const tagOf = (at: number): string => `t${String(at).padStart(4, '0')}`;
    const pageOf = (at: number): Page => ({
      tags: [tagOf(at)],
      ...(at < 349 ? { next: `p=${at + 1}` } : {}),
    });
    const long = upstream((page) => pageOf(page === '' ? 0 : Number(page.slice(2))));
    const found = await listTags(long.deps, NAME, {});
    t.equal(found.length, 350);
    t.equal(found.at(-1), 't0349');
    t.same(await listTags(long.deps, NAME, { n: 2, last: 't0300' }), ['t0301', 't0302']);

    const round: Readonly<Record<string, Page>> = {
      '': { tags: ['a'], next: 'x' },
      x: { tags: ['b'], next: 'y' },
      y: { tags: ['c'], next: 'x' },
    };
    const rounds = upstream((page) => round[page]!);
    t.same(await listTags(rounds.deps, NAME, {}), ['a', 'b', 'c']);
    t.same(rounds.asked, ['', 'x', 'y']);
  },
);

t.test('a list that does not end is refused rather than cut off', async (t) => {
  let at = 0;
  const endless = upstream(() => ({
    tags: Array.from({ length: 100_000 }, () => `t${at++}`),
    next: `p=${at}`,
  }));
  await t.rejects(listTags(endless.deps, NAME, { n: 10 }), {
    code: 'UPSTREAM_LIES',
    message: 'upstream up lists more than 500000 tags of team/app',
  });
  t.equal(endless.asked.length, 6);
});

t.test('a list that breaks off is no list, whatever is on record', async (t) => {
  const error = new CodedError('UPSTREAM_LIMITED', { message: 'slow down' });
  const { deps } = upstream((page) => {
    if (page === 'x') throw error;
    return { tags: ['a', 'b'], next: 'x' };
  });
  const tagIndex = {
    async *list() {
      yield { tag: 'recorded' };
    },
  };
  await t.rejects(listTags({ ...deps, tagIndex } as unknown as Deps, NAME, {}), { code: 'UPSTREAM_LIMITED' });
});
