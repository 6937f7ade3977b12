import t from 'tap';
import { pagesOf } from '../../src/s3/pages.ts';

async function readAll(next: (page: number) => number | undefined, most = 10_000): Promise<number[]> {
  const read: number[] = [];
  const pages = pagesOf(
    async (from: number | undefined) => from ?? 0,
    next,
    (words) => new Error(words),
  );
  for await (const page of pages) {
    read.push(page);
    if (read.length > most) throw new Error('it does not end');
  }
  return read;
}

t.test('pages are read until none is named', async (t) => {
  t.same(await readAll(() => undefined), [0]);
  t.equal((await readAll((page) => (page < 999 ? page + 1 : undefined))).length, 1_000);
});

t.test('a page that is named again ends the listing', async (t) => {
  await t.rejects(
    readAll(() => 0),
    /same page again/,
    'the first one',
  );
  await t.rejects(
    readAll((page) => Math.min(page + 1, 5)),
    /same page again/,
    'the last one',
  );
  for (const length of [2, 3, 7, 100])
    await t.rejects(
      readAll((page) => (page + 1 < 20 + length ? page + 1 : 20)),
      /same page again/,
      `a round of ${length}`,
    );
});
