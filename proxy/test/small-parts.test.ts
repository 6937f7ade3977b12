import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { countPieces, fullnessCells } from '../src/page/core/cells.ts';
import { ManifestCache } from '../src/registry/core/manifest-cache.ts';
import { parsePageSize, tagPage } from '../src/registry/core/tag-page.ts';

t.test('the manifest cache drops what was not used for longest and stays below its limit', async (t) => {
  const made = (text: string) => ({
    digest: digestOf(Buffer.from(text)),
    mediaType: 'x',
    bytes: Buffer.alloc(1000, text),
  });
  const [a, b, c] = [made('a'), made('b'), made('c')];
  const cache = new ManifestCache(3_500);
  const belief = (untilMs = 10) => ({ untilMs, revision: cache.revision });
  cache.put('s', a, belief());
  cache.put('s', b, belief());
  t.equal(cache.get('s', a.digest, 5)?.bytes, a.bytes);
  t.equal(cache.get('other', a.digest, 5), undefined);
  cache.put('s', c, belief());
  t.equal(cache.get('s', b.digest, 5), undefined, 'b was used longest ago');
  t.equal(cache.get('s', a.digest, 5)?.bytes, a.bytes);
  const used = cache.usedBytes;
  cache.put('s', a, belief());
  t.equal(cache.usedBytes, used, 'the same again costs nothing');
  cache.put('s', { ...made('d'), bytes: Buffer.alloc(5_000) }, belief());
  t.equal(cache.usedBytes, used, 'what exceeds the limit alone is not taken');
  t.equal(cache.get('s', a.digest, 10), undefined, 'what is too old is asked for again');
  const before = belief();
  cache.revoke([
    ['s', c.digest],
    ['s', b.digest],
  ]);
  t.equal(cache.get('s', c.digest, 5), undefined);
  cache.put('s', c, before);
  t.equal(cache.get('s', c.digest, 5), undefined, 'what was asked for before a revocation is not kept');
  t.equal(cache.usedBytes, 0);
});

t.test('a page of tags links to the next', async (t) => {
  t.same(tagPage(['a', 'b'], undefined, 'x', undefined), { tags: ['a', 'b'] });
  t.same(tagPage(['a', 'b'], 2, 'x', undefined), { tags: ['a', 'b'] });
  t.same(tagPage(['a', 'b', 'c'], 2, 'x/y', 'h:5'), {
    tags: ['a', 'b'],
    link: '</v2/x/y/tags/list?n=2&last=b&ns=h%3A5>; rel="next"',
  });
  t.same(tagPage(['a'], 0, 'x', undefined), { tags: [] });
  t.equal(parsePageSize(undefined), undefined);
  for (const large of ['999999999', '1000000000', '9'.repeat(400)])
    t.equal(parsePageSize(large), 10_000, large);
  for (const bad of ['-1', 'x', '1.5', ''])
    t.throws(() => parsePageSize(bad), { code: 'REQUEST_INVALID' }, bad);
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
