import { ADDRCONFIG, type LookupAddress, type LookupOptions, lookup } from 'node:dns';
import type { LookupFunction } from 'node:net';

/** Is told all addresses of a name, or why there are none. */
export type Found = (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void;

/** Finds all addresses of a host name; the system's resolver unless a test says otherwise. */
export type Resolve = (name: string, done: Found) => void;

/** As the system does, and as sockets of Node do by themselves: no IPv6 addresses on a machine without IPv6. */
export const systemResolve: Resolve = (name, done) => {
  lookup(name, { all: true, hints: ADDRCONFIG }, (error, found) => done(error, found));
};

/** Answers who connects with those of the addresses that are of the family asked for. */
export function answerLookup(
  name: string,
  found: readonly LookupAddress[],
  { all, family }: Pick<LookupOptions, 'all' | 'family'>,
  done: Parameters<LookupFunction>[2],
): void {
  const usable = found.filter((one) => isOf(family, one.family));
  const [first] = usable;
  if (first === undefined) {
    const message = `${name} has no address of that family`;
    done(Object.assign(new Error(message), { code: 'ENOTFOUND' }), []);
  } else if (all === true) done(null, usable);
  else done(null, first.address, first.family);
}

function isOf(wanted: LookupOptions['family'], family: number): boolean {
  return wanted === undefined || wanted === 0 || wanted === family || wanted === `IPv${family}`;
}
