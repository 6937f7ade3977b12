import { tryParse } from '@sepia/base/failure';
import ipaddr from 'ipaddr.js';
import { isAddress } from './reach.ts';

/** The variables that say how HTTP clients leave this machine; the lower-case names win, as in curl. */
export interface ProxyEnvironment {
  readonly http: string | undefined;
  readonly https: string | undefined;
  readonly none: string | undefined;
}

/**
 * The HTTP proxies that an environment names: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, lower case before upper case. Blank ones
 * count as unset.
 */
export function proxyEnvironment(env: Readonly<Record<string, string | undefined>>): ProxyEnvironment {
  const one = (name: string): string | undefined => {
    const value = env[name.toLowerCase()] ?? env[name];
    return value === undefined || value.trim() === '' ? undefined : value.trim();
  };
  return { http: one('HTTP_PROXY'), https: one('HTTPS_PROXY'), none: one('NO_PROXY') };
}

/**
 * The proxy for a URL, or undefined for none: by its scheme, unless `NO_PROXY` names its host. Entries, as Go programs
 * (containerd, docker) read them: `*`; an address or a network; a domain, which means its sub-domains too; `.domain`,
 * which means these alone; each with `:port` or not. This machine is never asked for through a proxy.
 */
export function proxyFor(url: URL, env: ProxyEnvironment): string | undefined {
  const proxy = url.protocol === 'https:' ? env.https : env.http;
  if (proxy === undefined || isLoopback(url.hostname)) return undefined;
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
  const entries = (env.none ?? '').split(/[\s,]+/).filter((entry) => entry !== '');
  return entries.some((entry) => isNamed(entry.toLowerCase(), plain(url.hostname), port)) ? undefined : proxy;
}

/** The URL of a proxy as the environment may give it; undefined if it is not an HTTP proxy, or its account is not encoded. */
export function parseProxy(text: string): URL | undefined {
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(full)) return undefined;
  const url = new URL(full);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return undefined;
  const isAccount = [url.username, url.password].every((part) => tryParse(() => decodeURIComponent(part)).ok);
  return isAccount ? url : undefined;
}

function isNamed(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true;
  if (entry.includes('/')) return isInNetwork(entry, host);
  const [, name = '', wantedPort] = /^(\[[^\]]*\]|[^:]*|[0-9a-f:.]*?)(?::(\d+))?$/.exec(entry) ?? [];
  if (wantedPort !== undefined && wantedPort !== port && !isAddress(entry)) return false;
  const wanted = isAddress(entry) ? plain(entry) : plain(name);
  if (isAddress(wanted)) return isAddress(host) && isSame(wanted, host);
  if (isAddress(host) || wanted === '') return false;
  const domain = wanted.replace(/^\*?\./, '');
  const subOnly = domain !== wanted;
  return (!subOnly && host === domain) || host.endsWith(`.${domain}`);
}

function isInNetwork(entry: string, host: string): boolean {
  if (!isAddress(host) || !ipaddr.isValidCIDR(entry)) return false;
  const [network, bits] = ipaddr.parseCIDR(entry);
  const address = ipaddr.process(host);
  return address.kind() === network.kind() && address.match([network, bits] as never);
}

function isSame(one: string, other: string): boolean {
  return ipaddr.process(one).toNormalizedString() === ipaddr.process(other).toNormalizedString();
}

function isLoopback(hostname: string): boolean {
  const host = plain(hostname);
  return host === 'localhost' || (isAddress(host) && ipaddr.process(host).range() === 'loopback');
}

/** In lower case, without brackets and trailing dot. */
function plain(hostname: string): string {
  return hostname
    .toLowerCase()
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '');
}
