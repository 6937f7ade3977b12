import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { isListed, parseNetworks, withoutPrefix } from '@sepia/base/networks';

/** More hops than this are not looked at. */
const MAX_HOPS = 32;

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

/** The address of a hop, which some proxies write with its port. */
function addressOfHop(text: string): string | undefined {
  const hop = text.trim();
  const bare = /^\[([^\]]*)\](?::\d+)?$/.exec(hop)?.[1] ?? /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
  const address = withoutPrefix(bare);
  return isIP(address) === 0 ? undefined : address.toLowerCase();
}
