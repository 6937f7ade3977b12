import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { countPieces, fullnessCells } from '../src/page/core/cells.ts';
import { createManifestCache } from '../src/registry/core/manifest-cache.ts';
import { MAX_TAGS, parseLast, parsePageSize, tagPage } from '../src/registry/core/tag-page.ts';

t.test('the manifest cache drops what was not used for longest and stays below its limit', async (t) => {
  const made = (text: string) => ({
    digest: digestOf(Buffer.from(text)),
    mediaType: 'x',
    bytes: Buffer.alloc(1000, text),
  });
  const [a, b, c] = [made('a'), made('b'), made('c')];
  const cache = createManifestCache(3_500, (upstream) => upstream === 'local');
  const put = (manifest: ReturnType<typeof made>, repository = 's', upstream = 'local'): void =>
    cache.note({ upstream, repository, digest: manifest.digest }, manifest, cache.begin(0));
  const get = ({ digest }: ReturnType<typeof made>, nowMs: number, repository = 's', upstream = 'local') =>
    cache.get({ upstream, repository, digest }, nowMs)?.bytes;
  put(a);
  put(b);
  t.equal(get(a, 5), a.bytes);
  t.equal(get(a, 5, 'other'), undefined);
  put(c);
  t.equal(get(b, 5), undefined, 'b was used longest ago');
  t.equal(get(a, 5), a.bytes);
  const { used } = cache;
  put(a);
  t.equal(cache.used, used, 'the same again costs nothing');
  put({ ...made('d'), bytes: Buffer.alloc(5_000) });
  t.equal(cache.used, used, 'what exceeds the limit alone is not taken');
  t.equal(get(a, 10_000), undefined, 'what is too old is asked for again');
  put(a, 's', 'hub');
  t.equal(get(a, 1e12, 's', 'hub'), a.bytes, 'where nothing is deleted it stays');
});

t.test('a page of tags links to the next', async (t) => {
  t.same(tagPage(['a', 'b'], 2, 'x', undefined), { tags: ['a', 'b'] });
  t.same(tagPage(['a', 'b', 'c'], 2, 'x/y', 'h:5'), {
    tags: ['a', 'b'],
    link: '</v2/x/y/tags/list?n=2&last=b&ns=h%3A5>; rel="next"',
  });
  t.same(tagPage(['a'], 0, 'x', undefined), { tags: [] });
  t.equal(parsePageSize(undefined), MAX_TAGS);
  for (const large of ['999999999', '1000000000', '9'.repeat(400)])
    t.equal(parsePageSize(large), 10_000, large);
  for (const bad of ['-1', 'x', '1.5', ''])
    t.throws(() => parsePageSize(bad), { code: 'REQUEST_INVALID' }, bad);
});

t.test('a list goes on behind any text that could be a name or a part of one', async (t) => {
  for (const last of [undefined, 'team/', 'B', 'v1.0+x', 'x'.repeat(256)]) t.equal(parseLast(last), last);
  for (const bad of ['x'.repeat(257), 'a\0', 'é'])
    t.throws(() => parseLast(bad), { code: 'REQUEST_INVALID' });
});

t.test('cells tell full from nearly full and empty from nearly empty', async (t) => {
  t.equal(fullnessCells('a0', 4), 'f0f0');
  t.equal(fullnessCells('ff', 8, 2), 'ff');
  t.equal(fullnessCells('fe', 8, 2), 'fb');
  t.equal(fullnessCells('01', 8, 1), '1');
  t.equal(fullnessCells(`${'f'.repeat(249)}e`, 1000, 1), 'e', '999 of 1000 is not full');
  t.equal(fullnessCells('', 3), '000', 'what lacks counts as nothing');
  t.equal(fullnessCells('zz', 8), '00000000');
  t.equal(countPieces('f1', 8), 5);
  t.equal(countPieces('ff', 5), 5, 'spare bits do not count');
});
