import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { liveDatabaseUrl, readDatabaseUrl } from '../../src/table/postgres/database-url.ts';

const KEY = 'records.url-file';

t.test('another user or password counts at once, another server or database does not', (t) => {
  const file = join(t.testdir({ url: 'postgres://sepia:one@db:5432/records\n' }), 'url');
  let nowMs = 0;
  const url = liveDatabaseUrl({ log: silentLogger(), nowMs: () => nowMs }, { file, key: KEY });
  t.equal(url(), 'postgres://sepia:one@db:5432/records');
  const become = (text: string): string => {
    writeFileSync(file, text);
    nowMs += 1_000;
    return url();
  };
  const renewed = 'postgres://other:two@db:5432/records?sslmode=require';
  t.equal(become(`${renewed}\n`), renewed);
  for (const text of [
    'postgres://other:two@elsewhere:5432/records',
    'postgres://other:two@db:5433/records',
    'postgres://other:two@db:5432/theirs',
    'postgres://other:two@db:5432/records?host=/run/elsewhere',
    'postgres://other:two@db:5432/records?port=5433',
    'postgres://other:two@db:5432/records?options=-csearch_path%3Dtheirs',
    'nonsense',
    '',
  ])
    t.equal(become(text), renewed, text);
  for (const text of ['postgres://third:3@db:5432/records', 'postgres://third:3@db/records?port=5432'])
    t.equal(become(text), text);
  t.end();
});

t.test('a file without an address is refused by its key, and what it holds is not told', (t) => {
  const dir = t.testdir({ url: 'mysql://sepia:secret@db/records' });
  const file = join(dir, 'url');
  const message = `${KEY}: ${file} holds no address such as postgres://user:password@host:5432/database`;
  const deps = { log: silentLogger(), nowMs: () => 0 };
  t.throws(() => readDatabaseUrl(file, KEY), { code: 'CONFIG_INVALID', message });
  t.throws(() => liveDatabaseUrl(deps, { file, key: KEY }), { code: 'CONFIG_INVALID', message });
  t.throws(() => readDatabaseUrl(dir, KEY), { message: `${KEY}: ${dir} cannot be read (EISDIR)` });
  t.equal(liveDatabaseUrl(deps, 'postgres://here/records')(), 'postgres://here/records');
  t.end();
});
