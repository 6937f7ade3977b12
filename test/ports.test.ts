import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const ROOT = join(import.meta.dirname, '..');
const BASE = /'--ports-from',\s+'(\d+)'/g;

t.test('process tests, of which several run at once, have clusters on ports of their own', (t) => {
  const of = new Map<string, Set<string>>();
  for (const file of globSync('test/processes/**/*.test.ts', { cwd: ROOT })) {
    // They run one by one.
    if (file.startsWith('test/processes/clients/')) continue;
    for (const [, base = ''] of readFileSync(join(ROOT, file), 'utf8').matchAll(BASE))
      of.set(base, (of.get(base) ?? new Set()).add(file));
  }
  t.ok(of.size > 10, 'they are found');
  t.same(
    [...of].filter(([, files]) => files.size > 1).map(([base, files]) => [base, ...files]),
    [],
    'take another base',
  );
  t.end();
});
