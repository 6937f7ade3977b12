import { BlockList, isIP } from 'node:net';

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

/** Whether an address, also an IPv4 one as dual-stack sockets show it, is in a list of {@link parseNetworks}. */
export function isListed(list: BlockList, address: string): boolean {
  const plain = withoutPrefix(address);
  const version = isIP(plain);
  return version !== 0 && list.check(plain, version === 4 ? 'ipv4' : 'ipv6');
}

/** An address without `::ffff:`, by which dual-stack sockets show IPv4; all others as they are. */
export function withoutPrefix(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}
