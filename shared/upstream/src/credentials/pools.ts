import { readElsewhere } from '@sepia/base/failure';
import type { Dispatcher, ProxyAddress } from '@sepia/http/sockets';
import type { TlsTexts } from '@sepia/http/tls/tls-texts';

/** What connections are opened with: another one of it needs other connections. */
export interface PoolTerms {
  readonly tls: TlsTexts;
  readonly proxy: ProxyAddress | undefined;
}

interface Pool extends PoolTerms {
  readonly dispatcher: Dispatcher;
}

/** Pools that were replaced and are left to end by themselves; older ones are closed. */
const MAX_FORMER = 16;

/**
 * Connections of one client by whom they lead to. Certificates that were renewed, and a new password of the HTTP proxy, count
 * for new connections; what is under way, or waits to be sent, ends on those that it has.
 */
export class Pools {
  readonly #pools = new Map<string, Pool>();
  readonly #former: Dispatcher[] = [];

  /** The connections for `key`, opened on these terms. */
  get(key: string, terms: PoolTerms, create: (terms: PoolTerms) => Dispatcher): Dispatcher {
    const known = this.#pools.get(key);
    if (known?.tls === terms.tls && known.proxy?.authorization === terms.proxy?.authorization)
      return known.dispatcher;
    const dispatcher = create(terms);
    this.#pools.set(key, { ...terms, dispatcher });
    if (known !== undefined) this.#retire(known.dispatcher);
    return dispatcher;
  }

  /** Cuts all connections. */
  async destroy(reason?: Error): Promise<void> {
    const all = [...[...this.#pools.values()].map(({ dispatcher }) => dispatcher), ...this.#former];
    await Promise.all(all.map(async (one) => await one.destroy(reason ?? null)));
  }

  /** Its idle connections end by themselves. */
  #retire(dispatcher: Dispatcher): void {
    this.#former.push(dispatcher);
    if (this.#former.length > MAX_FORMER) readElsewhere(this.#former.shift()!.close());
  }
}
