import type { IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';

/** More hops than this are not looked at. */
const MAX_HOPS = 32;

/** Addresses and networks (`10.0.0.0/8`) as one list; undefined if one is neither. */
export function parseNetworks(texts: readonly string[]): BlockList | undefined {
  const list = new BlockList();
  for (const text of texts) {
    const [, address = '', bits] = /^([0-9a-f.:]+)(?:\/(\d{1,3}))?$/i.exec(text) ?? [];
    const version = isIP(address);
    const prefix = bits === undefined ? undefined : Number(bits);
    if (version === 0 || (prefix !== undefined && prefix > (version === 4 ? 32 : 128))) return undefined;
    const family = version === 4 ? 'ipv4' : 'ipv6';
    if (prefix === undefined) list.addAddress(address, family);
    else list.addSubnet(address, prefix, family);
  }
  return list;
}

/**
 * Where a request comes from: its connection, or behind proxies of `trusted` the last hop of `X-Forwarded-For` that is
 * none of them. Without trusted proxies that header is never read. @throws {TypeError} for what is no address
 */
export function clientAddresses(trusted: readonly string[]): (req: IncomingMessage) => string {
  const list = parseNetworks(trusted);
  if (list === undefined) throw new TypeError(`no addresses: ${trusted.join(', ')}`);
  return (req) => {
    let address = req.socket.remoteAddress ?? '';
    if (trusted.length === 0) return address;
    const hops = [req.headers['x-forwarded-for'] ?? []].flat().join(',').split(',').slice(-MAX_HOPS);
    while (hops.length > 0 && isListed(list, address)) {
      const hop = addressOfHop(hops.pop()!);
      // What is no address is nobody's: all that came through the proxy that wrote it counts as one.
      if (hop === undefined) break;
      address = hop;
    }
    return address;
  };
}

function isListed(list: BlockList, address: string): boolean {
  const plain = withoutPrefix(address);
  const version = isIP(plain);
  return version !== 0 && list.check(plain, version === 4 ? 'ipv4' : 'ipv6');
}

/** An IPv4 address as dual-stack sockets show it. */
function withoutPrefix(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}

/** The address of a hop, which some proxies write with its port. */
function addressOfHop(text: string): string | undefined {
  const hop = text.trim();
  const bare = /^\[([^\]]*)\](?::\d+)?$/.exec(hop)?.[1] ?? /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
  const address = withoutPrefix(bare);
  return isIP(address) === 0 ? undefined : address.toLowerCase();
}
