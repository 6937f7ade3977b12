import t from 'tap';
import { ownLines } from '../../src/lazy/toml-lines.ts';

t.test('lines that go on with a list, a table or a string are blank', (t) => {
  const own = ['[a]', 'b = [ # [', "c = 'it]'", 'd = "\\"[" # ]', 'e = """', "f = '''", 'g = { h = [', '[i]'];
  const text = [
    ...['[a]', 'b = [ # [', '  ["x"],', '  ["]"]', ']', "c = 'it]'", 'd = "\\"[" # ]'],
    ...[
      'e = """',
      '[x] \\""" ""',
      'y = 1',
      '[z]""""',
      "f = '''",
      '[x]\\',
      "''''",
      'g = { h = [',
      '[1]',
      ']}',
      '[i]',
    ],
  ];
  const lines = ownLines(text);
  t.equal(lines.length, text.length);
  t.same(
    lines.filter((line) => line !== ''),
    own,
  );
  t.same(ownLines(['a = "open', '[b]', ']', '[c]']), ['a = "open', '[b]', ']', '[c]'], 'what is no TOML');
  t.end();
});
