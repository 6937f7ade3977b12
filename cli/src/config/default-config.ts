import { parse, stringify } from 'yaml';
import type { Role } from '../up/plan.ts';
import type { ConfigKey } from './keys.ts';

/** Required keys have no default: what is printed for them works on one machine. */
const EXAMPLES: Readonly<Record<Role, Readonly<Record<string, string>>>> = {
  agent: {
    'admin-listen': '127.0.0.1:17002',
    listeners: '[{ listen: 127.0.0.1:17000 }]',
    'peer-listen': '[127.0.0.1:17001]',
  },
  tracker: { 'admin-listen': '127.0.0.1:17102', listen: '127.0.0.1:17100' },
  origin: {
    'admin-listen': '127.0.0.1:17202',
    listen: '127.0.0.1:17200',
    'peer-listen': '[127.0.0.1:17201]',
  },
  accelerator: { 'admin-listen': '127.0.0.1:17402', listen: '127.0.0.1:17400' },
  snapshotter: { 'admin-listen': '127.0.0.1:17502', agent: 'http://127.0.0.1:17000' },
  proxy: { 'admin-listen': '127.0.0.1:17302', listeners: '[{ listen: 127.0.0.1:17300 }]' },
};
const COMMON_EXAMPLES: Readonly<Record<string, string>> = {
  'cluster-key-file': './cluster-key',
  'cluster-document': './cluster-document.yaml',
};

/** A config file of a role: required keys set, everything else shown as a comment with its default. */
export function defaultConfig(role: Role, keys: readonly ConfigKey[]): string {
  const lines = [`# Config of a Sepia ${role}. Keys that are commented out show their defaults.`, ''];
  for (const key of keys) lines.push(...keyLines(role, key), '');
  return `${lines.join('\n').trimEnd()}\n`;
}

function keyLines(role: Role, key: ConfigKey): string[] {
  const comment = [
    `# ${key.description}${key.children.length > 0 || key.values === 'text' ? '' : ` (${key.values})`}`,
  ];
  if (key.isRequired) {
    const example =
      EXAMPLES[role][key.name] ??
      COMMON_EXAMPLES[key.name] ??
      (key.name === 'data' ? `./${role}-data` : undefined);
    const inside =
      key.isList && key.children.length > 0
        ? key.children.map((child) => `#   ${child.name}: ${child.description}`)
        : [];
    return [
      ...comment,
      ...inside,
      ...stringify({ [key.name]: parse(example ?? '""') as unknown })
        .trimEnd()
        .split('\n'),
    ];
  }
  if (key.children.length > 0 && !key.isList)
    return [
      ...comment,
      `# ${key.name}:`,
      ...(key.isMap
        ? ['#   NAME:', ...sectionLines(key.children, '#     ')]
        : sectionLines(key.children, '#   ')),
    ];
  const value =
    key.fallback === undefined ? '' : stringify(key.fallback, { collectionStyle: 'flow' }).trimEnd();
  return [...comment, `# ${key.name}: ${value}`.trimEnd()];
}

function sectionLines(keys: readonly ConfigKey[], indent: string): string[] {
  return keys.flatMap((key) => {
    const value =
      key.fallback === undefined ? '' : ` ${stringify(key.fallback, { collectionStyle: 'flow' }).trimEnd()}`;
    const note = `# ${key.description}`;
    if (key.children.length > 0)
      return [`${indent}${note}`, `${indent}${key.name}:`, ...sectionLines(key.children, `${indent}  `)];
    return [`${indent}${key.name}:${value}  ${note}`];
  });
}
