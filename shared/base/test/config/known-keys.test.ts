import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { z } from 'zod';
import { keysAt, nearestKey } from '../../src/config/known-keys.ts';

const PART = z.strictObject({ name: z.string(), url: z.string().optional() });
const SCHEMA = z.strictObject({
  cache: z.strictObject({ budget: z.number().default(1) }).optional(),
  listeners: z.array(PART),
  credentials: z.record(z.string(), PART).optional(),
  tls: z.union([z.literal(false), z.strictObject({ 'key-file': z.string() })]).optional(),
  size: z.string().transform(Number).optional(),
});

t.test('the keys of each section, in lists, maps and choices', async (t) => {
  t.same(keysAt(SCHEMA, []), ['cache', 'listeners', 'credentials', 'tls', 'size']);
  t.same(keysAt(SCHEMA, ['cache']), ['budget']);
  t.same(keysAt(SCHEMA, ['listeners', 3]), ['name', 'url']);
  t.same(keysAt(SCHEMA, ['credentials', 'toString']), ['name', 'url']);
  t.same(keysAt(SCHEMA, ['tls']), ['key-file']);
  for (const path of [['size'], ['none'], ['cache', 'budget', 'x']]) t.same(keysAt(SCHEMA, path), []);
});

t.test('a slip is taken for the key that was meant, and nothing else for any', async (t) => {
  const keys = ['data', 'id', 'cache', 'listeners', 'peer-listen', 'cluster-key-file', 'log'];
  for (const [key, near] of [
    ['cahe', 'cache'],
    ['Cache', 'cache'],
    ['chace', 'cache'],
    ['dta', 'data'],
    ['cluster_key_file', 'cluster-key-file'],
    ['cluster-keyfile', 'cluster-key-file'],
    ['listener', 'listeners'],
    ['listen', 'listeners'],
    ['logs', 'log'],
    ['lgo', 'log'],
    ['ip', 'id'],
    ['colour', undefined],
    ['x', undefined],
    ['', undefined],
    ['logging', undefined],
  ] as const)
    t.equal(nearestKey(key, keys), near, key);
});

t.test('a key is its own nearest, with a letter more or less too', async () => {
  const keys = ['budget', 'credentials', 'default-upstream', 'read-only'];
  fc.assert(
    fc.property(fc.constantFrom(...keys), fc.nat(15), fc.boolean(), (key, at, isMore) => {
      const cut = at % key.length;
      const slip = `${key.slice(0, cut)}${isMore ? 'q' : ''}${key.slice(isMore ? cut : cut + 1)}`;
      return nearestKey(key, keys) === key && nearestKey(slip, keys) === key;
    }),
  );
});
