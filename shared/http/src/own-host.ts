import { isIP } from 'node:net';

/**
 * True if a request for this host may be answered. A page of somebody else's site can point its own name at this address
 * (DNS rebinding) and would be asked by that name: an address, `localhost` and names without a dot cannot be such a name;
 * any other must be one of `known` (host or host:port, lower case). `host`: of the target or the `Host` header.
 */
export function isOwnHost(host: string, known: Iterable<string>): boolean {
  const named = host.toLowerCase();
  const bare = named.startsWith('[') ? named.slice(1, named.indexOf(']')) : named.replace(/:\d*$/, '');
  const name = bare.replace(/\.$/, '');
  if (isIP(name) !== 0 || name === '' || name === 'localhost' || name.endsWith('.localhost')) return true;
  if (!name.includes('.')) return /^[a-z0-9_-]+$/.test(name);
  for (const one of known)
    if (one === named || one === name || one.replace(/:\d+$/, '') === name) return true;
  return false;
}
