import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkConfig } from '@sepia/base/config/load';
import { DOCUMENT_SCHEMA } from '@sepia/cluster/document';
import t from 'tap';
import { parse } from 'yaml';
import { defaultConfig } from '../../src/config/default-config.ts';
import { configDocs } from '../../src/config/docs.ts';
import { errorDocs } from '../../src/config/error-docs.ts';
import { type ConfigKey, configKeys } from '../../src/config/keys.ts';
import { roleSchema } from '../../src/config/role-schemas.ts';
import { ROLES } from '../../src/up/plan.ts';

t.test('docs/config.md is what the schemas say', async (t) => {
  const file = join(import.meta.dirname, '../../../docs/config.md');
  t.equal(
    readFileSync(file, 'utf8'),
    await configDocs(),
    'make it with: ./sepia config --docs > docs/config.md',
  );
});

t.test('docs/errors.md is what the table of errors says', async (t) => {
  const file = join(import.meta.dirname, '../../../docs/errors.md');
  t.equal(readFileSync(file, 'utf8'), errorDocs(), 'make it with: ./sepia config --errors > docs/errors.md');
});

t.test('the printed default config of each role is valid, also with every comment taken off', async (t) => {
  for (const role of ROLES) {
    const schema = await roleSchema(role);
    const keys = configKeys(schema);
    const text = defaultConfig(role, keys);
    t.ok(checkConfig(text, `${role}.yaml`, schema), role);
    const sections = parse(uncommented(text)) as Record<string, unknown>;
    for (const key of keys) t.ok(key.name in sections, `${role}: ${key.name} is shown`);
  }
});

t.test('every key says what it means', async (t) => {
  const walk = (key: ConfigKey, path: string): void => {
    t.not(key.description, '', path);
    for (const child of key.children) walk(child, `${path}.${child.name}`);
  };
  for (const role of ROLES)
    for (const key of configKeys(await roleSchema(role))) walk(key, `${role}: ${key.name}`);
  for (const key of configKeys(DOCUMENT_SCHEMA)) walk(key, `cluster document: ${key.name}`);
});

t.test('default config is written where files are', async (t) => {
  const schema = await roleSchema('tracker');
  const file = join(t.testdir(), 'tracker.yaml');
  writeFileSync(file, defaultConfig('tracker', configKeys(schema)));
  t.match(checkConfig(readFileSync(file, 'utf8'), file, schema), { listen: '127.0.0.1:17100' });
});

/** What is commented out becomes real: `# zone:`, `#   level: info`; sentences stay comments. */
function uncommented(text: string): string {
  return text
    .split('\n')
    .filter((line) => !/^#\s+[\w-]+: [A-Z]/.test(line))
    .map((line) =>
      /^#\s+(?:[a-z][\w-]*|NAME):/.test(line) && !/^# [\w-]+: \w+ \w+ /.test(line) ? line.slice(2) : line,
    )
    .join('\n');
}
