import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { throwIfBug } from '@sepia/base/failure';
import { parseHostPort } from '@sepia/base/host-port';
import { NAME_KEPT_MS } from '../deadlines.ts';
import type { PeerPlace } from './core/stranger-table.ts';

const MAX_NAMES = 10_000;

/** IP addresses of members' swarm ports: standard clients are told addresses alone. */
export class PeerPlaces {
  readonly #nowMs: () => number;
  readonly #known = new ExpiringMap<{ readonly host: string | undefined }>(MAX_NAMES);

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** The place of `host:port`; undefined where its name has no address. */
  async of(address: string): Promise<PeerPlace | undefined> {
    const parsed = parseHostPort(address);
    if (parsed === undefined) return undefined;
    const { host, port } = parsed;
    if (isIP(host) !== 0) return { host, port };
    let known = this.#known.get(host, this.#nowMs());
    if (known === undefined) {
      known = { host: await addressOf(host) };
      this.#known.set(host, known, this.#nowMs() + NAME_KEPT_MS);
    }
    return known.host === undefined ? undefined : { host: known.host, port };
  }
}

async function addressOf(name: string): Promise<string | undefined> {
  try {
    return (await lookup(name)).address;
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}
