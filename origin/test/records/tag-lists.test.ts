import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { RecentTagLists } from '../../src/records/recent-tag-lists.ts';
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
  const recent = new RecentTagLists({ keepMs: 60_000, maxTags: 1_000 });
  const deps = { upstreams: { client: () => client, takesDeletes: () => false }, recent };
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

t.test('who walks through a list has it read once; who begins anew has it read again', async (t) => {
  let tags = ['a', 'b', 'c', 'd', 'e'];
  const { deps, asked } = upstream(() => ({ tags }));
  t.same(await listTags(deps, NAME, { n: 2 }), ['a', 'b']);
  tags = ['a', 'b', 'b1', 'z'];
  t.same(await listTags(deps, NAME, { n: 2, last: 'b' }), ['c', 'd']);
  t.same(await listTags(deps, NAME, { n: 2, last: 'd' }), ['e']);
  t.same(await listTags(deps, NAME, { n: 2, last: 'e' }), []);
  t.equal(asked.length, 1);
  t.same(await listTags(deps, NAME, { n: 3 }), ['a', 'b', 'b1']);
  t.same(await listTags(deps, NAME, { n: 3, last: 'b1' }), ['z']);
  t.equal(asked.length, 2);
  const other = { ...NAME, repository: parseRepositoryName('team/other') };
  t.same(await listTags(deps, other, { n: 3, last: 'b' }), ['b1', 'z']);
  t.equal(asked.length, 3, 'what was not begun here is read');
});

t.test('a list that fits one page is not kept, nor is one on record', async (t) => {
  let isAway = false;
  const { deps, asked } = upstream(() => {
    if (isAway) throw new CodedError('BACKEND_DOWN');
    return { tags: ['a', 'b'] };
  });
  t.same(await listTags(deps, NAME, { n: 2 }), ['a', 'b']);
  t.equal(deps.recent.get(NAME), undefined);
  isAway = true;
  const tagIndex = {
    async *list() {
      for (const tag of ['r', 's', 't']) yield { tag };
    },
  } as unknown as Deps['tagIndex'];
  t.same(await listTags({ ...deps, tagIndex }, NAME, { n: 2 }), ['r', 's']);
  t.equal(deps.recent.get(NAME), undefined);
  t.equal(asked.length, 2);
});

t.test('where tags are written and deleted here each page is read anew', async (t) => {
  let owed: { tag: string; digest?: string }[] = [];
  const { deps, asked } = upstream(() => ({ tags: ['a', 'b', 'c', 'd'] }));
  const tagIndex = {
    async *owed(_name: unknown, after = '') {
      yield* owed.filter(({ tag }) => tag > after);
    },
  };
  const upstreams = { ...deps.upstreams, takesDeletes: () => true };
  const all = { ...deps, tagIndex, upstreams } as unknown as Deps;
  t.same(await listTags(all, NAME, { n: 2 }), ['a', 'b']);
  owed = [{ tag: 'c' }, { tag: 'b1', digest: 'sha256:1' }];
  t.same(await listTags(all, NAME, { n: 2, last: 'b' }), ['b1', 'd']);
  t.equal(asked.length, 2);
});

t.test('lists go when their time is over, and the oldest for want of room', async (t) => {
  const lists = new RecentTagLists({ keepMs: 600_000, maxTags: 5 });
  const named = (name: string) => ({ ...NAME, repository: parseRepositoryName(name) });
  lists.keep(named('one'), ['a', 'b']);
  lists.keep(named('two'), ['a', 'b', 'c']);
  lists.keep(named('two'), ['d', 'e', 'f']);
  t.same(lists.get(named('one')), ['a', 'b'], 'a list that is replaced takes no more room');
  lists.keep(named('three'), ['a']);
  t.equal(lists.get(named('one')), undefined);
  t.same(lists.get(named('two')), ['d', 'e', 'f']);
  lists.keep(named('two'), ['1', '2', '3', '4', '5', '6']);
  t.equal(
    lists.get(named('two')),
    undefined,
    'one that is larger than all is not kept, nor what it was before',
  );
  const short = new RecentTagLists({ keepMs: 1, maxTags: 5 });
  short.keep(NAME, ['a']);
  await until(() => short.get(NAME) === undefined, 'it went');
});
