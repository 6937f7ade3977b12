import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { ManifestCache, type StoredManifest } from '../../src/manifests/manifest-cache.ts';

/** Of 100 bytes, in Node's pool. */
function manifest(at: number): StoredManifest {
  const bytes = Buffer.from(String(at).padEnd(100));
  return { digest: digestOf(bytes), mediaType: 'application/json', bytes };
}

t.test('what is kept is bounded, objects and keys too, and holds no memory but its own', async (t) => {
  const cache = new ManifestCache(10_000);
  const all = Array.from({ length: 50 }, (_, at) => manifest(at));
  for (const one of all) {
    const kept = cache.put(one);
    t.same(kept, one);
    t.equal(kept.bytes.buffer.byteLength, 100);
  }
  const there = (): number => all.filter(({ digest }) => cache.get(digest) !== undefined).length;
  t.equal(there(), Math.floor(10_000 / 612));
  cache.put(all[49]!);
  t.equal(there(), Math.floor(10_000 / 612), 'once more takes no more room');
  t.equal(cache.get(all[0]!.digest), undefined, 'the oldest went');
  cache.delete(all[0]!.digest);
  cache.delete(all[49]!.digest);
  cache.put(all[1]!);
  t.equal(there(), Math.floor(10_000 / 612));
  cache.forgetAll();
  t.equal(there(), 0);
  for (const one of all) cache.put(one);
  t.equal(there(), Math.floor(10_000 / 612));
});
