import t from 'tap';
import { clientHas } from '../src/etag.ts';

t.test('If-None-Match names a tag among others, weak or not, or any', async (t) => {
  for (const header of ['"a"', 'W/"a"', '"b", "a"', '"b",W/"a" ', '*', ' * '])
    t.ok(clientHas(header, '"a"'), header);
  for (const header of ['a', 'b, a'])
    t.ok(clientHas(header, '"a"'), `${header}, as clients of registries write it`);
  for (const header of ['', '"b"', 'b', 'W/"b", "c"', '"a', 'w/"a"', 'W/a'])
    t.notOk(clientHas(header, '"a"'), header);
});
