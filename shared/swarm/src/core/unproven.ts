import { hostOf } from '@sepia/base/names/host-of';

/** Connections that have not proven the cluster key yet. */
export interface UnprovenLimits {
  readonly all: number;
  readonly perHost: number;
}

/** A place for one more, maybe instead of another connection; or none. */
export type UnprovenEntry<C> =
  | { readonly type: 'go'; readonly instead: C | undefined }
  | { readonly type: 'refuse' };

/**
 * Places for connections that have not proven the cluster key. One host has a share of them; where all are taken, the
 * host with the most gives up its oldest, so that members still come in whoever dials beside them.
 */
export class Unproven<C> {
  readonly #limits: UnprovenLimits;
  readonly #hosts = new Map<C, string>();

  constructor(limits: UnprovenLimits) {
    this.#limits = { ...limits };
  }

  get size(): number {
    return this.#hosts.size;
  }

  /** Asks for a place for a connection from `address`; the caller ends what is `instead`, and then {@link add}s. */
  admit(address: string): UnprovenEntry<C> {
    const counts = new Map<string, number>();
    for (const host of this.#hosts.values()) counts.set(host, (counts.get(host) ?? 0) + 1);
    const own = counts.get(hostOf(address)) ?? 0;
    if (own >= this.#limits.perHost) return { type: 'refuse' };
    if (this.#hosts.size < this.#limits.all) return { type: 'go', instead: undefined };
    let most: string | undefined;
    for (const [host, count] of counts)
      if (count > own + 1 && count > (counts.get(most ?? '') ?? 0)) most = host;
    for (const [connection, host] of this.#hosts)
      if (host === most) return { type: 'go', instead: connection };
    return { type: 'refuse' };
  }

  add(connection: C, address: string): void {
    this.#hosts.set(connection, hostOf(address));
  }

  delete(connection: C): void {
    this.#hosts.delete(connection);
  }

  connections(): C[] {
    return [...this.#hosts.keys()];
  }
}
