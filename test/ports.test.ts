import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const ROOT = join(import.meta.dirname, '..');
const BASE = /'--ports-from',\s+'(\d+)'|--ports-from (\d+)/g;
/** What one cluster takes from its base on. */
const SPAN = 600;
/** From here on the system takes ports for outgoing connections. */
const OUTGOING_FROM = 32_768;

/** Files by the base that they name. */
function basesOf(files: readonly string[]): Map<number, Set<string>> {
  const of = new Map<number, Set<string>>();
  for (const file of files)
    for (const [, one, other] of readFileSync(join(ROOT, file), 'utf8').matchAll(BASE)) {
      const base = Number(one ?? other);
      of.set(base, (of.get(base) ?? new Set()).add(file));
    }
  return of;
}

t.test('process tests, of which several run at once, have clusters on ports of their own', (t) => {
  // Those with clients run one by one. Some of the others play the rounds of torture.
  const tests = globSync('test/processes/**/*.test.ts', { cwd: ROOT }).filter(
    (file) => !file.startsWith('test/processes/clients/'),
  );
  const of = basesOf([...tests, 'test/torture/members.ts']);
  t.ok(of.size > 10, 'they are found');
  t.same(
    [...of].filter(([, files]) => files.size > 1).map(([base, files]) => [base, ...files]),
    [],
    'take another base',
  );
  t.end();
});

t.test('no cluster of a test takes a port that an outgoing connection may have', (t) => {
  const of = basesOf(globSync('test/{processes,torture,judges}/**/*.ts', { cwd: ROOT }));
  t.same(
    [...of].filter(([base]) => base + SPAN > OUTGOING_FROM).map(([base, files]) => [base, ...files]),
    [],
  );
  t.end();
});
