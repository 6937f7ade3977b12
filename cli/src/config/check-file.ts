import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { loadConfig } from '@sepia/base/config/load';
import { CodedError, isCoded } from '@sepia/base/errors';
import { z } from 'zod';
import { ROLES, type Role } from '../up/plan.ts';
import { guessRole, type RoleGuess } from './guess-role.ts';
import { checkAsRole, checkDocument, roleSchema } from './role-schemas.ts';

/**
 * Checks a config file as the start of its role does, with the files that it names, or a cluster document.
 * @param env of the process; the start of an origin and an accelerator asks it too
 * @param given its role; left out: guessed
 * @returns what the file is
 * @throws {CodedError} `CONFIG_INVALID` naming file and key, and the role that was guessed
 */
export async function checkFile(file: string, env: NodeJS.ProcessEnv, given?: Role): Promise<string> {
  const guess = given === undefined ? await guessAt(file) : { role: given, others: [] };
  if (guess === undefined) {
    await checkDocument(file);
    return 'cluster document';
  }
  const { role, others } = guess;
  loadAs(file, role, await roleSchema(role), given === undefined);
  await checkAsRole(role, file, env);
  const doubt =
    others.length === 0 ? '' : ` (or ${others.map(withArticle).join(', ')}: --role says whose it is)`;
  return `config of ${withArticle(role)}${doubt}`;
}

function loadAs(file: string, role: Role, schema: z.ZodType, isGuessed: boolean): void {
  try {
    loadConfig(file, schema);
  } catch (error) {
    if (!isGuessed || !isCoded(error, 'CONFIG_INVALID')) throw error;
    throw new CodedError('CONFIG_INVALID', {
      message: `${error.message} (taken for the config of ${withArticle(role)}; --role says whose it is)`,
      cause: error,
    });
  }
}

/** @throws {CodedError} `CONFIG_INVALID` for a file that cannot be read, or is no YAML */
async function guessAt(file: string): Promise<RoleGuess | undefined> {
  const config = loadConfig(file, z.unknown());
  const schemas = await Promise.all(ROLES.map(async (role) => [role, await roleSchema(role)] as const));
  const hint = `${basename(file)}\n${readFileSync(file, 'utf8')}`;
  return guessRole(config, hint, Object.fromEntries(schemas) as Record<Role, z.ZodType>);
}

function withArticle(role: Role): string {
  return `${/^[ao]/.test(role) ? 'an' : 'a'} ${role}`;
}
