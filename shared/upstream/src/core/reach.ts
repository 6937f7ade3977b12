import { inOneSpelling } from '@sepia/base/host-port';
import ipaddr from 'ipaddr.js';
import { getDomain } from 'tldts';

/**
 * What kind of place an address is. `private`: a network of somebody's own. `local`: this machine and its link, cloud
 * metadata services among them. `never`: no host at all.
 */
export type AddressClass = 'public' | 'private' | 'local' | 'never';

/** IPv4 ranges by class (RFC 6890 and the registries it names); IPv6 ranges below. Everything else is public. */
const V4: Readonly<Record<string, AddressClass>> = {
  loopback: 'local',
  linkLocal: 'local',
  unspecified: 'local',
  private: 'private',
  carrierGradeNat: 'private',
  broadcast: 'never',
  multicast: 'never',
};
const V6: Readonly<Record<string, AddressClass>> = {
  loopback: 'local',
  linkLocal: 'local',
  unspecified: 'local',
  uniqueLocal: 'private',
  deprecatedSiteLocal: 'private',
  benchmarking: 'private',
  multicast: 'never',
};
/** Ranges that `range()` does not tell apart: this host, protocol assignments, benchmarks, what was never given out. */
const V4_MORE: readonly (readonly [readonly [ipaddr.IPv4, number], AddressClass])[] = [
  [ipaddr.IPv4.parseCIDR('0.0.0.0/8'), 'local'],
  [ipaddr.IPv4.parseCIDR('192.0.0.0/24'), 'private'],
  [ipaddr.IPv4.parseCIDR('198.18.0.0/15'), 'private'],
  [ipaddr.IPv4.parseCIDR('240.0.0.0/4'), 'never'],
];
/** A translator's own prefix (RFC 8215): where the IPv4 address stands in it is its owner's choice. */
const LOCAL_TRANSLATION = ipaddr.IPv6.parseCIDR('64:ff9b:1::/48');

/**
 * The class of an IP address, in brackets or not. An IPv6 address that carries an IPv4 one (mapped, compatible,
 * translated, 6to4, Teredo) is what it carries. Text that is no address is `never`.
 */
export function classOf(text: string): AddressClass {
  const bare = text.replace(/^\[|\]$/g, '').replace(/%.*$/, '');
  if (!ipaddr.isValid(bare)) return 'never';
  const address = ipaddr.parse(bare);
  if (address instanceof ipaddr.IPv4) return v4Class(address);
  const v6 = address as ipaddr.IPv6;
  if (v6.match(LOCAL_TRANSLATION)) return 'private';
  const carried = carriedBy(v6);
  if (carried !== undefined) return v4Class(carried);
  return V6[v6.range()] ?? 'public';
}

/** True for a host of a URL that is an IP address. */
export function isAddress(hostname: string): boolean {
  return ipaddr.isValid(hostname.replace(/^\[|\]$/g, ''));
}

function v4Class(address: ipaddr.IPv4): AddressClass {
  const more = V4_MORE.find(([[network, bits]]) => address.match(network, bits));
  return more?.[1] ?? V4[address.range()] ?? 'public';
}

function carriedBy(address: ipaddr.IPv6): ipaddr.IPv4 | undefined {
  const bytes = address.toByteArray();
  const v4 = (from: number): ipaddr.IPv4 => new ipaddr.IPv4(bytes.slice(from, from + 4));
  const zeros = (to: number): boolean => bytes.slice(0, to).every((byte) => byte === 0);
  if (address.isIPv4MappedAddress()) return v4(12);
  // ::a.b.c.d and ::ffff:0:a.b.c.d, but neither :: nor ::1.
  if (zeros(12) && bytes.slice(12, 15).some((byte) => byte !== 0)) return v4(12);
  switch (address.range()) {
    case 'rfc6145':
    case 'rfc6052':
      return v4(12);
    case '6to4':
      return v4(2);
    case 'teredo':
      return new ipaddr.IPv4(bytes.slice(12).map((byte) => byte ^ 0xff));
    default:
      return undefined;
  }
}

/** Where a registry stands, and what else its operator named. */
export interface Home {
  /** Its URL. */
  readonly base: URL;
  /** `host` or `host:port` that it may redirect to, wherever they are. */
  readonly redirectHosts: readonly string[];
  /** The same of token services, which get its credentials. */
  readonly realmHosts: readonly string[];
}

/** Why somebody is to be asked beside the registry: it redirected there, or named it as the place of tokens. */
export type Purpose = 'redirect' | 'realm';

/**
 * What a URL is to a registry. `origin`: itself. `host`: its host, another port or scheme. `listed`: the operator named
 * it. `domain`: the same registrable domain (`auth.docker.io` of `registry-1.docker.io`). `foreign`: anybody.
 */
export type Place = 'origin' | 'host' | 'listed' | 'domain' | 'foreign';

/** Where a URL that a registry led to stands, seen from that registry. */
export function placeOf(home: Home, url: URL, purpose: Purpose): Place {
  if (url.origin === home.base.origin) return 'origin';
  if (isSameHost(url.hostname, home.base.hostname)) return 'host';
  const listed = purpose === 'redirect' ? home.redirectHosts : home.realmHosts;
  if (listed.some((entry) => isEntryOf(entry, url))) return 'listed';
  const domain = domainOf(url.hostname);
  return domain !== undefined && domain === domainOf(home.base.hostname) ? 'domain' : 'foreign';
}

/** True for a token service that may see the registry's credentials. */
export function mayBear(place: Place): boolean {
  return place !== 'foreign';
}

/**
 * True if an address may be dialled for a URL at `place`. `own`: the class of the address at which the registry itself
 * is, as far as it is known.
 */
export function mayDial(place: Place, address: AddressClass, own: AddressClass | undefined): boolean {
  if (place === 'origin' || place === 'listed' || address === 'public') return true;
  // A name may answer otherwise for another port: it leads no further in than the registry itself is.
  if (place === 'host') return own === undefined || address === own;
  return address === 'private' && own === 'private';
}

/** True for the address of the same item (`manifests/v1`, `blobs/sha256:…`) at a registry: not for storage, whose paths are its own, or are signed. */
export function isSameItem(url: URL, path: string): boolean {
  const item = `/${path.split('?', 1)[0]}`;
  const pathname = url.pathname.replace(/%3a/gi, ':');
  if (/[?&](?:x-[a-z]+-)?(?:signature|sig|expires)=/i.test(url.search)) return false;
  return pathname.endsWith(item) && /\/v2\/[^/]+/.test(pathname.slice(0, -item.length));
}

/** The three names of this machine are one host. */
function isSameHost(one: string, other: string): boolean {
  const [a, b] = [plainHost(one), plainHost(other)];
  return a === b || (isThisMachine(a) && isThisMachine(b));
}

function isThisMachine(host: string): boolean {
  return host === 'localhost' || host === '127.0.0.1' || host === '[::1]';
}

function isEntryOf(entry: string, url: URL): boolean {
  const named = [inOneSpelling(entry), inOneSpelling(`[${entry}]`)];
  const host = plainHost(url.hostname);
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
  return named.includes(host) || named.includes(`${host}:${port}`);
}

function plainHost(hostname: string): string {
  return hostname.toLowerCase().replace(/\.$/, '');
}

function domainOf(hostname: string): string | undefined {
  return getDomain(plainHost(hostname), { allowPrivateDomains: true }) ?? undefined;
}
