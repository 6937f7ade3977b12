import t from 'tap';
import { isObject, optional } from '../../src/json/plain-object.ts';

t.test('an object has keys: lists, null and texts are none', async (t) => {
  for (const value of [{}, { a: 1 }]) t.ok(isObject(value));
  for (const value of [[], null, undefined, 'a', 1]) t.notOk(isObject(value), String(value));
});

t.test('a key without a value is left out', async (t) => {
  t.strictSame({ ...optional('a', 0), ...optional('b', undefined) }, { a: 0 });
});
