import { networkInterfaces } from 'node:os';

/** Why a test that listens at `::1` is left out here; false where it runs. */
export function noIpv6(): string | false {
  const addresses = Object.values(networkInterfaces()).flat();
  return addresses.some((one) => one?.address === '::1') ? false : 'no IPv6 here';
}
