import { CodedError } from '../errors.ts';
import { inOneSpelling } from '../host-port.ts';
import { parseRepositoryName, type RepositoryName } from './repository.ts';

/** What name resolution needs to know of an upstream. `hosts`: lower-case host[:port] values it answers to. */
export interface NamedUpstream {
  readonly name: string;
  readonly hosts: readonly string[];
}

/** A repository at an upstream: the identity under which tags and links are kept. */
export interface ResolvedName {
  readonly upstream: string;
  readonly repository: RepositoryName;
}

interface NameRequest {
  /** The `ns` query value of containerd, if sent. */
  readonly ns: string | undefined;
  /** `<name>` of the path, unchecked. */
  readonly name: string;
  /** Upstream of the listener, used when nothing in the request names one. */
  readonly defaultUpstream: string | undefined;
}

/** Host names that all mean Docker Hub: an upstream that answers to one answers to all of them. */
export const DOCKER_HUB_HOSTS: ReadonlySet<string> = new Set([
  'docker.io',
  'registry-1.docker.io',
  'index.docker.io',
]);

/**
 * Which upstream and repository a request means: `ns`, else the first path part if it is
 * one of the hosts and looks like a host, else the listener's default. Docker Hub's bare names get `library/`.
 * No host is ever dialled because a request named it.
 * @throws {CodedError} `UPSTREAM_UNKNOWN`, `NAME_INVALID`
 */
export function resolveName(request: NameRequest, upstreams: readonly NamedUpstream[]): ResolvedName {
  const { ns, name } = request;
  if (ns !== undefined && ns !== '') {
    const found = upstreamOfHost(ns, upstreams);
    if (found === undefined) throw new CodedError('UPSTREAM_UNKNOWN', { detail: { ns: ns.slice(0, 200) } });
    return resolved(found, stripHost(name, found));
  }
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  if (looksLikeHost(first)) {
    const found = upstreamOfHost(first, upstreams);
    if (found !== undefined) return resolved(found, name.slice(slash + 1));
  }
  const fallback = upstreams.find((one) => one.name === request.defaultUpstream);
  if (fallback === undefined)
    throw new CodedError('UPSTREAM_UNKNOWN', { detail: { name: name.slice(0, 300) } });
  return resolved(fallback, name);
}

/** Names of the loopback, which are one. */
const LOOPBACK_HOSTS: readonly string[] = ['localhost', '127.0.0.1', '[::1]'];

/**
 * The upstream that answers to `host`, Docker Hub's three names being one. The port of HTTPS, else of HTTP, may be left out or
 * not, and the loopback be called by another of its names, unless another upstream answers to just what was said.
 */
export function upstreamOfHost<T extends NamedUpstream>(
  host: string,
  upstreams: readonly T[],
): T | undefined {
  for (const wanted of spellingsOf(canonicalHost(host)))
    for (const port of ['', ':443', ':80']) {
      const bare = withoutPort(wanted, port);
      const found = upstreams.find((one) =>
        one.hosts.some((candidate) => withoutPort(canonicalHost(candidate), port) === bare),
      );
      if (found !== undefined) return found;
    }
  return undefined;
}

/** What was said, and where it is a name of the loopback the other ones. */
function spellingsOf(host: string): string[] {
  const [, name, port = ''] = /^(.+?)(:\d{1,5})?$/.exec(host) ?? [];
  if (name === undefined || !LOOPBACK_HOSTS.includes(name)) return [host];
  return [host, ...LOOPBACK_HOSTS.filter((other) => other !== name).map((other) => `${other}${port}`)];
}

/** True for an upstream that is Docker Hub, whose official images lie below `library/`. */
export function isDockerHub(upstream: NamedUpstream): boolean {
  return upstream.hosts.some((host) => DOCKER_HUB_HOSTS.has(host.toLowerCase()));
}

function canonicalHost(host: string): string {
  const one = inOneSpelling(host);
  return DOCKER_HUB_HOSTS.has(withoutPort(one, ':443')) ? 'docker.io' : one;
}

function withoutPort(host: string, port: string): string {
  return port !== '' && host.endsWith(port) ? host.slice(0, -port.length) : host;
}

function looksLikeHost(part: string): boolean {
  return part === 'localhost' || part.includes('.') || part.includes(':');
}

/** `ns` wins, but a mirror configured with a path sends the host in the name as well: it is taken off once. */
function stripHost(name: string, upstream: NamedUpstream): string {
  const slash = name.indexOf('/');
  if (slash === -1 || !looksLikeHost(name.slice(0, slash))) return name;
  return upstreamOfHost(name.slice(0, slash), [upstream]) === undefined ? name : name.slice(slash + 1);
}

function resolved(upstream: NamedUpstream, name: string): ResolvedName {
  const bare = isDockerHub(upstream) && !name.includes('/') ? `library/${name}` : name;
  return { upstream: upstream.name, repository: parseRepositoryName(bare) };
}
