import { DOCUMENT_SCHEMA } from '@sepia/cluster/document';
import { ROLES } from '../up/plan.ts';
import { type ConfigKey, configKeys } from './keys.ts';
import { roleSchema } from './role-schemas.ts';

const HEAD = `# Config

Made from the schemas by \`./sepia config --docs > docs/config.md\`; a test fails when it is out of date.

Every role reads one YAML file: \`sepia ROLE --config FILE\`. An unknown key, a bad unit or an impossible pair stops the
start with one line that names file and key. \`./sepia config ROLE\` prints a file to begin with,
\`./sepia config check FILE\` checks one. Paths are relative to the file that names them. A size is a number of bytes, or a number and
a unit (\`512MiB\`, \`1.5GiB\`, \`10GB\`: B, KiB to TiB, KB to TB); a duration a number and a unit (\`500ms\`, \`5s\`, \`2m\`, \`1h\`, \`7d\`).
Globs stand in quotes, for \`*\` means something else to YAML; what they mean says [build-index.md](build-index.md#policies).
`;

/** The text of `docs/config.md`. */
export async function configDocs(): Promise<string> {
  const parts = [HEAD];
  for (const role of ROLES)
    parts.push(section(`${role[0]!.toUpperCase()}${role.slice(1)}`, configKeys(await roleSchema(role))));
  parts.push(section('Cluster document', configKeys(DOCUMENT_SCHEMA)));
  return parts.join('\n');
}

function section(title: string, keys: readonly ConfigKey[]): string {
  const rows = keys.flatMap((key) => keyRows(key, ''));
  return [
    `## ${title}`,
    '',
    '| key | value | default | meaning |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
}

function keyRows(key: ConfigKey, prefix: string): string[] {
  const path = `${prefix}${key.name}`;
  const isSection = key.children.length > 0 && !key.isList && !key.isMap;
  const fallback = key.isRequired
    ? '**required**'
    : isSection || key.fallback === undefined
      ? ''
      : `\`${JSON.stringify(key.fallback).replaceAll('"', '')}\``;
  const own = `| \`${path}\` | ${cell(key.values)} | ${fallback} | ${cell(key.description)} |`;
  return [
    own,
    ...key.children.flatMap((child) =>
      keyRows(child, key.isList ? `${path}[].` : key.isMap ? `${path}.NAME.` : `${path}.`),
    ),
  ];
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}
