import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { recordsEngineOf, urlOption, wholeNumber } from '../../src/options/option-values.ts';
import { parseUpstream } from '../../src/up/upstream-option.ts';

const ADDRESS = 'postgres://sepia:secret@db.example:5432/records';

t.test('the address of a database comes from a file, or stands on the command line', async (t) => {
  const file = join(t.testdir({ url: `${ADDRESS}\n` }), 'url');
  t.equal(recordsEngineOf('postgres', file, '--records'), ADDRESS);
  t.equal(recordsEngineOf(ADDRESS, undefined, '--records'), ADDRESS);
  t.equal(recordsEngineOf('embedded', undefined, '--records'), 'embedded');
});

t.test('what is lacking is named, and what a file holds is not', async (t) => {
  const file = join(t.testdir({ url: 'mysql://sepia:secret@db.example/records' }), 'url');
  const said = (engine: string, urlFile?: string): string => {
    try {
      return recordsEngineOf(engine, urlFile, '--to');
    } catch (error) {
      return (error as Error).message;
    }
  };
  t.equal(said('postgres'), '--to: postgres needs --url-file, a file with its address');
  t.match(said('postgres', `${file}-gone`), /^--url-file: .*url-gone cannot be read \(ENOENT\)$/);
  t.match(said('postgres', file), /^--url-file: .*url holds no address such as/);
  t.notMatch(said('postgres', file), /secret/);
  t.match(said('etcd'), /^--to: is neither embedded, nor postgres, nor an address/);
  writeFileSync(file, 'postgres://db.example');
  t.match(said('postgres', file), /holds no address/, 'no database is named');
});

t.test('a number that is too large is told apart from what is none', async (t) => {
  const read = wholeNumber('--count');
  t.equal(read('12'), 12);
  t.throws(() => read('99999999999999'), { message: '--count: "99999999999999" is too large' });
  for (const text of ['', '-1', '1.5', 'x'])
    t.throws(() => read(text), { message: `--count: "${text}" is not a whole number` });
});

t.test('a number outside of its bounds is told with them', async (t) => {
  const read = wholeNumber('--threads', 1, 256);
  t.equal(read('1'), 1);
  t.equal(read('256'), 256);
  for (const text of ['0', '257'])
    t.throws(() => read(text), { message: `--threads: ${text} is not between 1 and 256` });
});

t.test('an address with an account is refused, and its password not shown', async (t) => {
  const given = 'http://user:secret@127.0.0.1:17000';
  for (const read of [urlOption('--proxy'), (text: string) => parseUpstream(`harbor=${text}`)]) {
    const error = t.throws(() => read(given)) as unknown as Error;
    t.match(error.message, /http:\/\/…@127\.0\.0\.1:17000" is not an? /);
    t.notMatch(error.message, /secret|user/);
  }
});
