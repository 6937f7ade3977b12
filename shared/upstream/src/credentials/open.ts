import { LiveTexts, type NamedFile, type TextSource } from '@sepia/base/config/live-texts';
import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { basic } from './basic.ts';
import { CredentialHelper } from './credential-helper.ts';
import { PasswordFile } from './password-file.ts';
import type { CredentialSource } from './source.ts';

/** What a member's config says of its account at a registry; paths are absolute. */
export interface CredentialConfig {
  readonly username?: string | undefined;
  readonly 'password-file'?: string | undefined;
  readonly helper?: string | undefined;
  readonly 'helper-server'?: string | undefined;
  readonly certificate?: string | undefined;
  readonly 'key-file'?: string | undefined;
  readonly 'proxy-username'?: string | undefined;
  readonly 'proxy-password-file'?: string | undefined;
}

/** How this member shows who it is: to the registry, and to the HTTP proxy before it. */
export interface Identity {
  readonly credentials: CredentialSource | undefined;
  /** PEM. */
  readonly certificate: TextSource | undefined;
  readonly key: TextSource | undefined;
  readonly proxyAuthorization: (() => string | undefined) | undefined;
}

interface OpenDeps {
  readonly log: Logger;
  readonly nowMs: () => number;
  /** The date, for passwords that say when they end. */
  readonly dateMs: () => number;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What docker's helpers know Docker Hub by. */
export const DOCKER_HUB_SERVER = 'https://index.docker.io/v1/';

/** Opens the credentials of the entry `name` for the registry at `base`. @throws {CodedError} `CONFIG_INVALID` that names the key */
export function openCredentials(
  deps: OpenDeps,
  name: string,
  config: CredentialConfig | undefined,
  base: URL,
): Identity {
  const key = (field: keyof CredentialConfig): string => `credentials.${name}.${field}`;
  const named = (field: 'certificate' | 'key-file' | 'proxy-password-file'): NamedFile | undefined => {
    const file = config?.[field];
    return file === undefined ? undefined : { file, key: key(field) };
  };
  return {
    credentials: config === undefined ? undefined : sourceOf(deps, config, key, base),
    certificate: named('certificate'),
    key: named('key-file'),
    proxyAuthorization: proxyAuthorizationOf(deps, config?.['proxy-username'], named('proxy-password-file')),
  };
}

function sourceOf(
  deps: OpenDeps,
  config: CredentialConfig,
  key: (field: keyof CredentialConfig) => string,
  base: URL,
): CredentialSource | undefined {
  const { username, 'password-file': file, helper } = config;
  if (helper !== undefined) {
    const isHub = base.host === 'registry-1.docker.io';
    const server = config['helper-server'] ?? (isHub ? DOCKER_HUB_SERVER : base.host);
    return new CredentialHelper(deps, { name: helper, server, key: key('helper') });
  }
  if (username === undefined || file === undefined) return undefined;
  return new PasswordFile(deps, { username, file, key: key('password-file') });
}

/** What the HTTP proxy is told, by the password that the file holds now. */
function proxyAuthorizationOf(
  deps: OpenDeps,
  username: string | undefined,
  file: NamedFile | undefined,
): (() => string) | undefined {
  if (username === undefined) return undefined;
  const texts = new LiveTexts(deps, { password: file }, ({ password = '' }) => {
    // A file that is rewritten in place is empty for a moment.
    if (file !== undefined && password.trim() === '')
      throw new CodedError('CONFIG_INVALID', { message: `${file.key}: ${file.file} is empty` });
  });
  return () => basic({ username, password: texts.current().password?.trim() ?? '' });
}
