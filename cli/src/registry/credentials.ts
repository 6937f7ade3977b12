import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { type CredentialSource, fixedCredentials } from '@sepia/upstream/credentials/source';
import type { Command } from 'commander';
import { helpBelow } from '../options/help-text.ts';
import { homeFolder } from '../options/home-folder.ts';
import { fromDockerConfig } from './docker-config.ts';

/** Flags of commands that speak to a registry which may want an account. */
export interface CredentialFlags {
  readonly user?: string;
  readonly passwordFile?: string;
}

const SOCKETS_HELP =
  'Registries are reached through the HTTP proxies that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name; this machine, agents and proxies of a cluster are reached straight.';

/** Adds `--user` and `--password-file`. The password is never an argument: those are public on a machine. */
export function addCredentialOptions(command: Command): Command {
  command
    .option(
      '--user <name>',
      'account at the registry (default: $SEPIA_USER, else what docker login stored, also with a credential helper)',
    )
    .option('--password-file <file>', 'file with its password (default: $SEPIA_PASSWORD)');
  return helpBelow(command, [SOCKETS_HELP]);
}

/**
 * Credentials for `registry`, from the flags, `SEPIA_USER` and `SEPIA_PASSWORD`, or docker's config file; undefined where nothing
 * is known. `registry`: the host[:port] that `docker login` was given.
 * @throws {CodedError} `CONFIG_INVALID` that names the flag or file
 */
export function credentialsFor(
  registry: string,
  flags: CredentialFlags,
  env: Readonly<Record<string, string | undefined>>,
): CredentialSource | undefined {
  const username = flags.user ?? env['SEPIA_USER'];
  if (username !== undefined) {
    const password =
      flags.passwordFile === undefined ? env['SEPIA_PASSWORD'] : readPassword(flags.passwordFile);
    if (password === undefined)
      throw new CodedError('CONFIG_INVALID', {
        message: `no password for ${username}: give --password-file or set SEPIA_PASSWORD`,
      });
    return fixedCredentials({ username, password });
  }
  const home = homeFolder();
  const folder = env['DOCKER_CONFIG'] ?? (home === undefined ? undefined : join(home, '.docker'));
  return folder === undefined ? undefined : fromDockerConfig(registry, join(folder, 'config.json'), env);
}

function readPassword(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `--password-file: ${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
}
