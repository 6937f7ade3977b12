import { globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';

const ROOT = resolve(import.meta.dirname, '..');

/** A thing that is there once: what a copy of it looks like, and the files that may look so. */
interface OneOfEach {
  readonly what: string;
  readonly copy: RegExp;
  readonly homes: readonly string[];
}

const ONES: readonly OneOfEach[] = [
  {
    what: 'the name of a blob',
    copy: /\binterface BlobName\b|\btype BlobName\b\s*=/,
    homes: ['shared/base/src/names/blob-name.ts'],
  },
  {
    what: 'the query that names a repository between members',
    copy: /URLSearchParams\(\{\s*upstream(?:: [\w.]+)?,\s*repository|[?&`]upstream=\$\{/,
    homes: ['shared/cluster/src/api/name-query.ts'],
  },
  {
    what: 'the key that places a repository on the ring',
    copy: /\bfunction shardKey\b|upstream\}\\n\$\{[\w.]*repository\}`/,
    homes: ['shared/cluster/src/cluster.ts'],
  },
  {
    what: 'what a link is remembered by',
    copy: /upstream\}\\n\$\{[\w.]*repository\}\\n\$\{[\w.]*digest\}`/,
    homes: ['shared/base/src/names/blob-name.ts'],
  },
  {
    what: 'a repository in keys on disk',
    copy: /`tag\\0\$\{/,
    homes: ['shared/records/src/record-store.ts'],
  },
  {
    what: 'a wait that doubles',
    copy: /[mM]s\w* \* 2 \*\*|_MS \* 2 \*\*|\b(\w*Ms) = Math\.min\([^)]*\b\1 \* 2\)|firstMs \* 2 \*\*/,
    homes: ['shared/base/src/async/backoff.ts'],
  },
];

const SOURCES = globSync(
  ['shared/*/src/**/*.ts', '{tracker,origin,agent,proxy,accelerator,snapshotter,cli,sim}/src/**/*.ts'],
  { cwd: ROOT },
).map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }));

for (const { what, copy, homes } of ONES) {
  t.test(`there is one of ${what}`, async (t) => {
    const found = SOURCES.filter(({ text }) => copy.test(text)).map(({ path }) => path);
    t.same(found.sort(), [...homes].sort(), `write no second one; use the one of ${homes.join(', ')}`);
  });
}

t.test('there is one way in which tests wait', async (t) => {
  const found = globSync(['**/test/**/*.ts'], {
    cwd: ROOT,
    exclude: (name) => name === 'node_modules',
  }).filter((path) => /\bfunction until\b/.test(readFileSync(join(ROOT, path), 'utf8')));
  // base is below the test support: its one test that waits does so by itself.
  t.same(found.sort(), ['shared/base/test/async/hedge.test.ts', 'test/support/src/until.ts']);
});
