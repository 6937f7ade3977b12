import { firstAnswer } from '@sepia/base/async/ask-many';
import { MAX_TIMER_MS } from '@sepia/base/bounded-ms';
import type { NamedFile } from '@sepia/base/config/live-texts';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { MemberDialling, ProxyAddress } from '@sepia/http/sockets';
import { liveTls } from '@sepia/http/tls/tls-texts';
import { type ProxyEnvironment, parseProxy, proxyEnvironment, proxyFor } from './core/proxy-choice.ts';
import type { Home } from './core/reach.ts';
import { basic } from './credentials/basic.ts';
import { type CredentialConfig, openCredentials } from './credentials/open.ts';
import { HEAD_SILENT_MS } from './deadlines/upstreams.ts';
import type { UpstreamClientOptions } from './queries.ts';
import { TargetClient } from './target-client.ts';

/** Other names of Docker Hub that are no registries themselves. */
const DOCKER_HUB_ALIASES = new Set(['docker.io', 'index.docker.io', 'hub.docker.com']);

/** The address that an upstream's `url` means. */
export function baseOf(url: string): URL {
  const base = new URL(url);
  if (DOCKER_HUB_ALIASES.has(base.host)) base.host = 'registry-1.docker.io';
  return base;
}

/** Where an upstream, or the target of a rule, stands. */
export function homeOf(one: {
  readonly url: string;
  readonly 'redirect-hosts': readonly string[];
  readonly 'realm-hosts': readonly string[];
}): Home {
  return { base: baseOf(one.url), redirectHosts: one['redirect-hosts'], realmHosts: one['realm-hosts'] };
}

/** `proxy` of a registry that is reached straight, whatever the environment says. */
export const DIRECT = 'direct';

/**
 * The HTTP proxy for each URL: the configured one for all of them, else what the environment says. `authorization`: what it is told now.
 * @throws {CodedError} `CONFIG_INVALID` for a variable that is no HTTP proxy
 */
export function proxiesOf(
  configured: string | undefined,
  authorization: (() => string | undefined) | undefined,
  env: ProxyEnvironment,
): (url: URL) => ProxyAddress | undefined {
  if (configured === DIRECT) return () => undefined;
  if (configured !== undefined) return () => ({ url: configured, authorization: authorization?.() });
  for (const [name, value] of [['HTTP_PROXY', env.http] as const, ['HTTPS_PROXY', env.https] as const])
    if (value !== undefined && parseProxy(value) === undefined)
      throw new CodedError('CONFIG_INVALID', {
        message: `${name} is no HTTP proxy (http://host:port); set proxy: ${DIRECT} for upstreams that need none`,
      });
  return (url) => {
    const found = proxyFor(url, env);
    const proxy = found === undefined ? undefined : parseProxy(found);
    return proxy === undefined ? undefined : proxyAddressOf(proxy, authorization?.());
  };
}

/** A registry that is written to, as the cluster document and this member's config say. */
interface TargetConfig {
  readonly name: string;
  readonly to: {
    readonly url: string;
    readonly insecure: boolean;
    readonly ca?: string | undefined;
    readonly proxy?: string | undefined;
    readonly 'redirect-hosts': readonly string[];
    readonly 'realm-hosts': readonly string[];
  };
  /** Key of `to.ca`, for errors. */
  readonly caKey: string;
  /** The entry of `credentials` that is shown there, if one is. */
  readonly account: { readonly name: string; readonly config: CredentialConfig | undefined };
  readonly connections: number;
  /** Said in `ns` of each request. */
  readonly ns?: string;
  /** Where it is a proxy of the cluster: how members are dialled. */
  readonly member?: MemberDialling | undefined;
}

/** Opens the client that writes to a registry. @throws {CodedError} `CONFIG_INVALID` that names the key */
export function openTargetClient(
  deps: {
    /** Of the process: HTTP proxies, and where credential helpers are. */
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly log: Logger;
    readonly nowMs: () => number;
    readonly dateMs: () => number;
  },
  { name, to, caKey, account, connections, ns, member }: TargetConfig,
): TargetClient {
  const home = homeOf(to);
  const identity = openCredentials(deps, account.name, account.config, home.base);
  const { credentials, certificate, key, proxyAuthorization } = identity;
  const ca = to.ca === undefined ? undefined : { file: to.ca, key: caKey };
  return new TargetClient(
    {
      upstream: name,
      home,
      insecure: to.insecure,
      credentials,
      tls: liveTls(deps, { ca, certificate, key }),
      proxyFor: proxiesOf(to.proxy, proxyAuthorization, proxyEnvironment(deps.env)),
      log: deps.log,
      nowMs: deps.nowMs,
      member,
      ...(ns === undefined ? {} : { ns }),
    },
    { connections },
  );
}

/** The file of certificates that an upstream of the cluster document names. */
export function caOf({
  name,
  ca,
}: {
  readonly name: string;
  readonly ca?: string | undefined;
}): NamedFile | undefined {
  return ca === undefined ? undefined : { file: ca, key: `upstreams: ca of ${name}` };
}

/** A proxy as {@link parseProxy} gives it. A configured account counts, else the one in the address. */
export function proxyAddressOf(proxy: URL, configured?: string): ProxyAddress {
  const { username, password } = proxy;
  const bare = new URL(proxy);
  bare.username = '';
  bare.password = '';
  const own =
    username === ''
      ? undefined
      : basic({ username: decodeURIComponent(username), password: decodeURIComponent(password) });
  return { url: bare.href, authorization: configured ?? own };
}

/** Options without the keys that are set to undefined, so that they do not hide a default. */
export function defined(options: UpstreamClientOptions): UpstreamClientOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** A HEAD that a token of the registry's own service does not open, as at public ECR: there a GET may be allowed all the same. */
export function isHeadRefused(error: unknown): boolean {
  return (
    isCoded(error, 'UPSTREAM_DENIED') && error.detail['status'] === 401 && error.detail['hadToken'] === true
  );
}

/** A refused or missing HEAD may still be an allowed GET, unless the credentials themselves were refused. */
export function helpsToGet(error: unknown): boolean {
  if (isCoded(error, 'BLOB_UNKNOWN') || isCoded(error, 'MANIFEST_UNKNOWN') || isHeadRefused(error))
    return true;
  if (isCoded(error, 'UPSTREAM_DENIED'))
    return error.detail['status'] !== 401 && error.detail['scope'] === undefined;
  // Storage behind a redirect may only have signed for GET; 204, 500 and 501 are a HEAD that was never built, or tried.
  return (
    isCoded(error, 'BACKEND_DOWN') &&
    [204, 400, 401, 403, 404, 405, 500, 501].includes(Number(error.detail['status']))
  );
}

/** How something is asked for; each call ends with its signal. */
interface Ways<T> {
  /** Undefined for an answer that tells nothing. `waiting`: see `RegistryRead`. */
  readonly head: (signal: AbortSignal, waiting: (isWaiting: boolean) => void) => Promise<T | undefined>;
  readonly get: (signal: AbortSignal) => Promise<T>;
}

/**
 * What HEAD tells, or GET where HEAD fails or tells nothing; GET beside it where HEAD was sent and is silent for a while: there are
 * gateways that never answer it, and who asks has not always time for the silence of both. A HEAD that waits for its turn, or for a
 * token, is no reason to ask twice.
 * @throws what GET fails with, unless that may pass and HEAD is not over, or HEAD where that is final
 */
export async function headOrGet<T>(
  ways: Ways<T>,
  signal: AbortSignal,
  silentMs = HEAD_SILENT_MS,
): Promise<T> {
  let said: unknown;
  let isHeadOver = false;
  const head = async (abort: AbortSignal, doubt: () => void): Promise<T> => {
    let timer: NodeJS.Timeout | undefined;
    const waiting = (isWaiting: boolean): void => {
      clearTimeout(timer);
      if (isWaiting) timer = setTimeout(doubt, silentMs);
    };
    try {
      const found = await ways.head(abort, waiting);
      if (found !== undefined) return found;
      throw new CodedError('MANIFEST_UNKNOWN', { message: 'HEAD tells nothing' });
    } catch (error) {
      throwIfBug(error);
      isHeadOver = true;
      throw said !== undefined && leavesToGet(error) ? said : error;
    }
  };
  const get = async (abort: AbortSignal): Promise<T> => {
    try {
      return await ways.get(abort);
    } catch (error) {
      throwIfBug(error);
      said = error;
      throw error;
    }
  };
  const isFinal = (error: unknown): boolean =>
    error === said ? isHeadOver || !mayPass(error) : !leavesToGet(error);
  return await firstAnswer([head, get], async (way, abort, doubt) => await way(abort, doubt), {
    hedgeAfterMs: MAX_TIMER_MS,
    signal,
    isFinal,
  });
}

/** True for a failure of HEAD that says nothing of GET. */
function leavesToGet(error: unknown): boolean {
  const isLate = isCoded(error, 'BACKEND_DOWN') && error.detail['reason'] === 'timeout';
  return isLate || helpsToGet(error);
}

/** True where registries limit what is got, or break at it, and may answer HEAD all the same. */
function mayPass(error: unknown): boolean {
  return isCoded(error, 'UPSTREAM_LIMITED') || isCoded(error, 'BACKEND_DOWN');
}
