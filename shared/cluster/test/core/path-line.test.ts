import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { filesOf, pathLine, readPathLine } from '../../src/core/path-line.ts';

t.test('a line is read as it was written', async (t) => {
  const part = fc.record({ offset: fc.nat(), length: fc.nat() });
  const path = fc.string({ minLength: 1 }).filter((text) => !/\t\d+\+\d+$/.test(text));
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(path, fc.option(part, { nil: undefined }), (name, of) => {
        const read = readPathLine(pathLine(name, of));
        return read.path === name && JSON.stringify(read.part) === JSON.stringify(of);
      }),
    ),
  );
});

t.test('what is no part belongs to the path; files are told once', async (t) => {
  t.same(readPathLine('a\tb'), { path: 'a\tb' });
  t.same(readPathLine('a\t1+'), { path: 'a\t1+' });
  t.same(readPathLine('a\t1+2+3'), { path: 'a\t1+2+3' });
  t.same(filesOf(['a\t0+10', 'b', 'a\t10+10', 'a', 'b']), ['a', 'b']);
});
