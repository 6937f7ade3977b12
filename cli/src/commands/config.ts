import { resolve } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import type { Command } from 'commander';
import { checkFile } from '../config/check-file.ts';
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
    .description('check a config file as the start does, with the files that it names, or a cluster document')
    .option('--role <role>', 'whose config it is (default: the role that its keys fit best)')
    .action(async (file: string, flags: { role?: string }) => {
      if (flags.role !== undefined && !isRole(flags.role))
        throw new CodedError('CONFIG_INVALID', {
          message: `--role: "${flags.role}" is not one of ${ROLES.join(', ')}`,
        });
      process.stdout.write(`${file}: ${await checkFile(resolve(file), process.env, flags.role)} is valid\n`);
    });
}

function isRole(text: string): text is Role {
  return (ROLES as readonly string[]).includes(text);
}
