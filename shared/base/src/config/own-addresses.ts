import type { z } from 'zod';
import { parseHostPort } from '../host-port.ts';

/** An address that a member listens at, and its key in the config. */
export type OwnAddress = readonly [path: readonly (string | number)[], address: string];

/** Names the addresses of one config of which the second could not be bound beside the first. Port 0 is another one each time. */
export function checkOwnAddresses(addresses: readonly OwnAddress[], ctx: z.RefinementCtx): void {
  for (const [index, [path, address]] of addresses.entries()) {
    const taken = addresses.slice(0, index).find(([, before]) => isSame(before, address));
    if (taken === undefined) continue;
    const message = `${address} is taken by ${taken[0].join('.')} (${taken[1]}); give each an address of its own`;
    ctx.addIssue({ code: 'custom', path: [...path], message });
  }
}

/** The addresses of a list of the config, each with the key that names it in errors. */
export function ownAddresses(key: string, addresses: readonly string[]): OwnAddress[] {
  return addresses.map((address, index) => [[key, index], address]);
}

/** The listening addresses of registry endpoints, with their keys. */
export function endpointAddresses(listeners: readonly { readonly listen: string }[]): OwnAddress[] {
  return listeners.map(({ listen }, index) => [['listeners', index, 'listen'], listen]);
}

/** Names are compared as they stand: what they resolve to is not known here. */
function isSame(one: string, other: string): boolean {
  const [a, b] = [parseHostPort(one), parseHostPort(other)];
  if (a === undefined || b === undefined || a.port !== b.port || a.port === 0) return false;
  return a.host.toLowerCase() === b.host.toLowerCase() || takes(a.host, b.host) || takes(b.host, a.host);
}

/** Whether an address that stands for all of the machine takes this one too; `::` takes those of version 4. */
function takes(all: string, host: string): boolean {
  const isV4 = /^\d+\.\d+\.\d+\.\d+$/.test(host);
  if (all === '0.0.0.0') return isV4 || host === '::';
  return all === '::' && (isV4 || host.includes(':'));
}
