import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { DOCKER_HUB_HOSTS } from '@sepia/base/names/upstream-name';
import type { Credentials } from '@sepia/upstream/credentials/source';
import type { Command } from 'commander';
import { homeFolder } from '../options/home-folder.ts';

/** Flags of commands that speak to a registry which may want an account. */
export interface CredentialFlags {
  readonly user?: string;
  readonly passwordFile?: string;
}

const SOCKETS_HELP = `
Registries are reached through the HTTP proxies that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name; this machine is reached
straight.
`;

/** Adds `--user` and `--password-file`. The password is never an argument: those are public on a machine. */
export function addCredentialOptions(command: Command): Command {
  return command
    .option('--user <name>', 'account at the registry (default: $SEPIA_USER, else what docker login stored)')
    .option('--password-file <file>', 'file with its password (default: $SEPIA_PASSWORD)')
    .addHelpText('after', SOCKETS_HELP);
}

/**
 * Credentials for `registry`, from the flags, `SEPIA_USER` and `SEPIA_PASSWORD`, or the `auths` of docker's
 * config file; undefined where nothing is known. `registry`: the host[:port] that `docker login` was given.
 * @throws {CodedError} `CONFIG_INVALID` that names the flag or file
 */
export function credentialsFor(
  registry: string,
  flags: CredentialFlags,
  env: Readonly<Record<string, string | undefined>>,
): Credentials | undefined {
  const username = flags.user ?? env['SEPIA_USER'];
  if (username !== undefined) {
    const password =
      flags.passwordFile === undefined ? env['SEPIA_PASSWORD'] : readPassword(flags.passwordFile);
    if (password === undefined)
      throw new CodedError('CONFIG_INVALID', {
        message: `no password for ${username}: give --password-file or set SEPIA_PASSWORD`,
      });
    return { username, password };
  }
  const home = homeFolder();
  const folder = env['DOCKER_CONFIG'] ?? (home === undefined ? undefined : join(home, '.docker'));
  return folder === undefined ? undefined : fromDockerConfig(registry, join(folder, 'config.json'));
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

/** What `docker login` wrote without a credential helper; a file that is not there or of another form knows nothing. */
function fromDockerConfig(registry: string, file: string): Credentials | undefined {
  let auths: Readonly<Record<string, unknown>>;
  try {
    const config = JSON.parse(readFileSync(file, 'utf8')) as { readonly auths?: typeof auths | null } | null;
    auths = config?.auths ?? {};
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
  const host = hostOfKey(registry);
  const key = Object.hasOwn(auths, registry)
    ? registry
    : Object.keys(auths).find((one) => hostOfKey(one) === host);
  return key === undefined ? undefined : accountIn(auths[key]);
}

/** Logins are kept under what was typed: a host, a URL, one with the path of an API. */
function hostOfKey(key: string): string {
  const [host = ''] = key
    .toLowerCase()
    .replace(/^https?:\/\//, '')
    .split('/');
  return DOCKER_HUB_HOSTS.has(host) ? 'docker.io' : host;
}

/** An account as docker keeps it, or as secrets of Kubernetes have it, in fields of their own. */
function accountIn(entry: unknown): Credentials | undefined {
  const { auth, username, password } = (entry ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof auth !== 'string' || auth === '')
    return typeof username === 'string' && typeof password === 'string' ? { username, password } : undefined;
  const text = Buffer.from(auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 1 ? undefined : { username: text.slice(0, colon), password: text.slice(colon + 1) };
}
