import t from 'tap';
import { clientHas } from '../src/etag.ts';

t.test('If-None-Match names a tag among others, weak or not, or any', async (t) => {
  for (const header of ['"a"', 'W/"a"', '"b", "a"', '"b",W/"a" ', '*', ' * '])
    t.ok(clientHas(header, '"a"'), header);
  for (const header of ['', '"b"', 'a', 'W/"b", "c"', '"a', 'w/"a"'])
    t.notOk(clientHas(header, '"a"'), header);
});
