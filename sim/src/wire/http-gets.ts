import type { LinkId, SwarmEvent } from '@sepia/swarm/core/events';
import type { HttpPort } from './http.ts';
import type { Machine } from './machine.ts';
import { PIECE_BYTES } from './uplink.ts';

/** What one node asks of HTTP sources. */
export class HttpGets {
  readonly #client: string;
  readonly #machine: Machine;
  readonly #tell: (event: SwarmEvent) => void;
  readonly #links = new Map<LinkId, { readonly port: HttpPort; readonly gets: Map<number, () => void> }>();

  constructor(client: string, machine: Machine, tell: (event: SwarmEvent) => void) {
    this.#client = client;
    this.#machine = machine;
    this.#tell = tell;
  }

  add(link: LinkId, port: HttpPort): void {
    this.#links.set(link, { port, gets: new Map() });
  }

  /** Asks for a piece; false where the link is no HTTP source. */
  get(link: LinkId, index: number): boolean {
    const http = this.#links.get(link);
    if (http === undefined) return false;
    const giveUp = http.port.get(
      this.#client,
      index,
      (ok) => {
        if (!ok) {
          http.gets.delete(index);
          this.#tell({ type: 'fetchFailed', link, index, busy: false });
          return;
        }
        this.#machine.received(PIECE_BYTES, () => {
          if (http.gets.delete(index)) this.#tell({ type: 'fetched', link, index, good: true });
        });
      },
      (bytes) => this.#tell({ type: 'progress', link, index, bytes }),
    );
    http.gets.set(index, giveUp);
    return true;
  }

  cancel(link: LinkId, index: number): void {
    const http = this.#links.get(link);
    http?.gets.get(index)?.();
    http?.gets.delete(index);
  }
}
