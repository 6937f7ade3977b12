import { readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { besideConfig, loadConfig, readClusterKey } from '@sepia/base/config/load';
import { CodedError } from '@sepia/base/errors';
import { tryParse } from '@sepia/base/failure';
import { loadClusterDocument } from '@sepia/cluster/document';
import type { Command } from 'commander';
import { parse } from 'yaml';
import { defaultConfig } from '../config/default-config.ts';
import { configDocs } from '../config/docs.ts';
import { errorDocs } from '../config/error-docs.ts';
import { configKeys } from '../config/keys.ts';
import { roleSchema } from '../config/role-schemas.ts';
import { ROLES, type Role } from '../up/plan.ts';

/** `sepia config`. */
export function addConfig(program: Command): void {
  const config = program.command('config').description('print the default config of a role, or check a file');
  config
    .argument('[role]', `${ROLES.join(', ')}: its config with every key, default and meaning`)
    .option('--docs', 'print docs/config.md', false)
    .option('--errors', 'print docs/errors.md', false)
    .action(async (role: string | undefined, flags: { docs: boolean; errors: boolean }) => {
      if (flags.docs) return void process.stdout.write(await configDocs());
      if (flags.errors) return void process.stdout.write(errorDocs());
      if (role === undefined || !isRole(role))
        throw new CodedError('CONFIG_INVALID', {
          message: `config: "${role ?? ''}" is not a role; one of ${ROLES.join(', ')}, or check FILE`,
        });
      process.stdout.write(defaultConfig(role, configKeys(await roleSchema(role))));
    });
  config
    .command('check <file>')
    .description('check a config file or cluster document, and the files that it names')
    .option('--role <role>', 'whose config it is (default: told by its keys)')
    .action(async (file: string, flags: { role?: string }) => {
      process.stdout.write(`${file}: ${await check(resolve(file), flags.role)} is valid\n`);
    });
}

/** @returns what the file is. @throws {CodedError} `CONFIG_INVALID` naming file and key */
async function check(file: string, given: string | undefined): Promise<string> {
  if (given !== undefined && !isRole(given))
    throw new CodedError('CONFIG_INVALID', {
      message: `--role: "${given}" is not one of ${ROLES.join(', ')}`,
    });
  const role = given ?? guessRole(file);
  if (role === undefined) {
    loadClusterDocument(file);
    return 'cluster document';
  }
  const config = loadConfig(file, await roleSchema(role)) as {
    'cluster-key-file': string;
    'cluster-document': string;
  };
  readClusterKey(besideConfig(file, config['cluster-key-file']));
  loadClusterDocument(besideConfig(file, config['cluster-document']));
  return `config of ${role === 'agent' || role === 'origin' ? 'an' : 'a'} ${role}`;
}

/** By the keys that only one role has; undefined for a cluster document. What cannot be told is named after its file. */
function guessRole(file: string): Role | undefined {
  const keys = topLevelKeys(file);
  if (keys.has('members') || keys.has('upstreams')) return undefined;
  if (keys.has('listeners')) return keys.has('peer-listen') || keys.has('back-to-source') ? 'agent' : 'proxy';
  if (keys.has('peer-listen')) return 'origin';
  const named = ROLES.find((role) => basename(file).startsWith(role));
  return named ?? 'tracker';
}

function topLevelKeys(file: string): ReadonlySet<string> {
  // Unreadable: the check itself says how.
  const read = tryParse<unknown>(() => parse(readFileSync(file, 'utf8')));
  return new Set(
    read.ok && typeof read.value === 'object' && read.value !== null ? Object.keys(read.value) : [],
  );
}

function isRole(text: string): text is Role {
  return (ROLES as readonly string[]).includes(text);
}
