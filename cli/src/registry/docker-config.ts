import { readFileSync } from 'node:fs';
import { throwIfBug } from '@sepia/base/failure';
import { silentLogger } from '@sepia/base/log';
import { DOCKER_HUB_HOSTS } from '@sepia/base/names/upstream-name';
import { CredentialHelper } from '@sepia/upstream/credentials/credential-helper';
import { DOCKER_HUB_SERVER } from '@sepia/upstream/credentials/open';
import {
  type CredentialSource,
  type Credentials,
  fixedCredentials,
} from '@sepia/upstream/credentials/source';

type Environment = Readonly<Record<string, string | undefined>>;

/** What is read of docker's `config.json`; anything may stand there. */
interface DockerConfig {
  readonly auths?: unknown;
  readonly credHelpers?: unknown;
  readonly credsStore?: unknown;
}

/**
 * The account of a registry that docker's config file has, or the helper that it names: `credHelpers` for this registry, else
 * `auths`, else `credsStore`. A file that is not there or of another form knows nothing.
 */
export function fromDockerConfig(
  registry: string,
  file: string,
  env: Environment,
): CredentialSource | undefined {
  const { auths, credHelpers, credsStore } = configIn(file);
  const helper = entryOf(credHelpers, registry);
  if (typeof helper === 'string' && helper !== '')
    return helperOf(helper, registry, `${file}: credHelpers`, env);
  const account = accountIn(entryOf(auths, registry));
  if (account !== undefined) return fixedCredentials(account);
  return typeof credsStore === 'string' && credsStore !== ''
    ? helperOf(credsStore, registry, `${file}: credsStore`, env)
    : undefined;
}

function configIn(file: string): DockerConfig {
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as DockerConfig | null) ?? {};
  } catch (error) {
    throwIfBug(error);
    return {};
  }
}

/** The value that an object has for a registry, by the name as given or another of the same host. */
function entryOf(object: unknown, registry: string): unknown {
  if (typeof object !== 'object' || object === null) return undefined;
  const entries = object as Readonly<Record<string, unknown>>;
  const host = hostOfKey(registry);
  const key = Object.hasOwn(entries, registry)
    ? registry
    : Object.keys(entries).find((one) => hostOfKey(one) === host);
  return key === undefined ? undefined : entries[key];
}

/**
 * A helper, looked for and run once the registry asks who is there: many images are everybody's, and it may ask for a password on
 * the screen.
 */
function helperOf(name: string, registry: string, key: string, env: Environment): CredentialSource {
  const host = hostOfKey(registry);
  const server = host === 'docker.io' ? DOCKER_HUB_SERVER : host;
  const nowMs = (): number => performance.now();
  const deps = { log: silentLogger(), nowMs, dateMs: Date.now, env };
  let helper: CredentialHelper | undefined;
  return {
    current: async () => {
      helper ??= new CredentialHelper(deps, { name, server, key });
      return await helper.current();
    },
    refused: (credentials) => helper?.refused(credentials),
  };
}

/** Logins are kept under what was typed: a host, a URL, one with the path of an API. */
function hostOfKey(key: string): string {
  const [host = ''] = key
    .toLowerCase()
    .replace(/^https?:\/\//, '')
    .split('/');
  return DOCKER_HUB_HOSTS.has(host) ? 'docker.io' : host;
}

/** An account as docker keeps it, a token in its place (`identitytoken`), or as secrets of Kubernetes have it, in fields of their own. */
function accountIn(entry: unknown): Credentials | undefined {
  const { auth, username, password, identitytoken } = (entry ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof identitytoken === 'string' && identitytoken !== '')
    return { username: '<token>', password: identitytoken, isIdentityToken: true };
  if (typeof auth !== 'string' || auth === '')
    return typeof username === 'string' && typeof password === 'string' ? { username, password } : undefined;
  const text = Buffer.from(auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 1 ? undefined : { username: text.slice(0, colon), password: text.slice(colon + 1) };
}
