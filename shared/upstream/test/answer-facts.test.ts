import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { lengthOf, mediaTypeOf, nextQuery, partOf, tagsOf } from '../src/answer-facts.ts';
import { PauseBook, retryAfterSeconds } from '../src/retry-after.ts';

const part = (contentRange: string, start: number, end?: number) =>
  partOf({ headers: { 'content-range': contentRange } }, { start, end });

t.test('a part is only what was asked, shortened at most to the end', async (t) => {
  t.same(part('bytes 5-9/100', 5, 9), { start: 5, end: 9, sizeBytes: 100 });
  t.same(part('bytes 90-99/100', 90, 500), { start: 90, end: 99, sizeBytes: 100 });
  t.same(part('bytes 90-99/100', 90), { start: 90, end: 99, sizeBytes: 100 });
  t.same(part('Bytes 5-9/*', 5, 9), { start: 5, end: 9, sizeBytes: undefined });
  t.same(part('bytes=5-9', 5, 9), { start: 5, end: 9, sizeBytes: undefined });
  t.same(part('5-9/100', 5, 9), { start: 5, end: 9, sizeBytes: 100 });
  t.same(part('bytes 5-9/*', 5), { start: 5, end: 9, sizeBytes: undefined });
  for (const [header, start, end] of [
    ['bytes 0-9/100', 5, 9],
    ['bytes 5-8/100', 5, 9],
    ['bytes 5-10/100', 5, 9],
    ['bytes 5-4/100', 5, 4],
    ['bytes 5-98/100', 5, undefined],
    ['bytes 5-9/9', 5, 9],
    ['bytes */100', 5, 9],
    ['items 5-9/100', 5, 9],
    ['', 5, 9],
    ['bytes', 5, 9],
    ['bytes 5-7/*', 5, 9],
  ] as const) {
    t.equal(part(header, start, end), undefined, `${header} for ${start}-${end}`);
  }
});

t.test('lengths and types', async (t) => {
  const length = (value: string) => lengthOf({ headers: { 'content-length': value } });
  t.equal(length('0'), 0);
  t.equal(length('123'), 123);
  for (const bad of ['', '-1', '1e3', '0x10', '1.5', '9'.repeat(16)]) t.equal(length(bad), undefined, bad);
  t.equal(
    mediaTypeOf({ headers: { 'content-type': 'Application/JSON; charset=utf-8' } }),
    'application/json',
  );
  t.equal(mediaTypeOf({ headers: {} }), undefined);
});

t.test('tag lists', async (t) => {
  const tags = (text: string) => tagsOf(Buffer.from(text));
  t.same(tags('{"name":"a","tags":["v1","v2"]}'), ['v1', 'v2']);
  t.same(tags('{"name":"a","tags":null}'), []);
  t.same(tags('{"tags":["ok","not ok",7,"-x"]}'), ['ok']);
  for (const bad of ['', 'null', '[]x', '{"tags":"v1"}', '"x"', '3']) t.equal(tags(bad), undefined, bad);
});

t.test('the next page, whatever host the link names', async (t) => {
  t.equal(nextQuery('</v2/a/tags/list?last=v%2B1&n=2>; rel="next"'), 'last=v%2B1&n=2');
  t.equal(nextQuery('<http://evil.example/v2/a/tags/list?last=x>; rel=next'), 'last=x');
  t.equal(
    nextQuery('</v2/a/tags/list?n=2>; rel="prev", </v2/a/tags/list?last=b&n=2>; rel="next"'),
    'last=b&n=2',
  );
  t.equal(
    nextQuery('</v2/a/tags/list?next_page=gAAA%3D>; rel="next"'),
    'next_page=gAAA%3D',
    'a token of its own',
  );
  for (const none of [undefined, '', '</v2/x>; rel="next"', '</v2/x?last=a>; rel="prev"', 'last=a'])
    t.equal(nextQuery(none), undefined, String(none));
  // Were each of them looked through to the end this would take a minute.
  for (const [times, one] of [
    [100_000, '<>\\"'],
    [100_000, '<>"'],
    [60_000, '<>;rel="\\'],
  ] as const)
    t.equal(nextQuery(one.repeat(times)), undefined, `${one} many times`);
  t.equal(nextQuery('</x?last=a>; rel=next; title="open'), 'last=a');
});

t.test('Retry-After as number and as date, bounded', async (t) => {
  const nowMs = Date.parse('2030-01-01T00:00:00Z');
  t.equal(retryAfterSeconds('120', nowMs), 120);
  t.equal(retryAfterSeconds('Tue, 01 Jan 2030 00:00:30 GMT', nowMs), 30);
  t.equal(retryAfterSeconds('Mon, 31 Dec 2029 00:00:00 GMT', nowMs), 0);
  t.equal(retryAfterSeconds('99999999', nowMs), 600);
  t.equal(retryAfterSeconds(['3', '4'], nowMs), 3);
  for (const bad of [undefined, '', 'soon', '-5x'])
    t.equal(retryAfterSeconds(bad, nowMs), undefined, String(bad));
});

t.test('a pause lasts as long as the longest that was asked for, per kind', async (t) => {
  const book = new PauseBook();
  book.pause('a', 10, 0);
  book.pause('a', 2, 1_000);
  t.equal(book.secondsLeft('a', 1_000), 9);
  t.equal(book.secondsLeft('a', 9_001), 1);
  t.equal(book.secondsLeft('a', 10_000), 0);
  t.equal(book.secondsLeft('b', 0), 0);
});

t.test('nothing that a header may hold throws', async (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      part(text, 0);
      lengthOf({ headers: { 'content-length': text } });
      nextQuery(text);
      tagsOf(Buffer.from(text));
      const seconds = retryAfterSeconds(text, 0);
      return seconds === undefined || (Number.isInteger(seconds) && seconds >= 0 && seconds <= 600);
    }),
    { numRuns: 2000 },
  );
  t.pass('none threw');
});
