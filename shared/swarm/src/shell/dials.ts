import type { Socket } from 'node:net';
import type { LinkId } from '../core/events.ts';
import { HardenedWire } from '../wire/wire.ts';
import type { GoneReason } from '../wire/wire-extensions.ts';
import type { LinkOwner, WireInit } from '../wire/wire-owner.ts';
import { dial } from './net.ts';

interface DialsDeps {
  readonly timeoutMs: number;
  /** What this member is, for the handshake. */
  readonly self: Pick<WireInit, 'clusterKey' | 'peerId' | 'origin' | 'zone'>;
  readonly swarm: { readonly id: Uint8Array; readonly sizeBytes: number };
  /** What is to listen to the wire of `link`. */
  readonly ownerOf: (link: LinkId, socket: Socket) => LinkOwner;
  readonly onFailed: (link: LinkId, error: unknown) => void;
}

/** Wires of one swarm that this side dials, until the other end proved the cluster key. */
export class Dials {
  readonly #deps: DialsDeps;
  readonly #dials = new Map<LinkId, { giveUp: () => void; wire?: HardenedWire }>();

  constructor(deps: DialsDeps) {
    this.#deps = deps;
  }

  start(link: LinkId, peerId: string, address: string): void {
    const slot: { giveUp: () => void; wire?: HardenedWire } = { giveUp: () => {} };
    this.#dials.set(link, slot);
    try {
      slot.giveUp = dial(address, this.#deps.timeoutMs, (socket, error) => {
        if (socket === undefined) {
          this.#dials.delete(link);
          this.#deps.onFailed(link, error);
        } else slot.wire = this.#shake(link, peerId, socket);
      });
    } catch (error) {
      this.#dials.delete(link);
      this.#deps.onFailed(link, error);
    }
  }

  /** Its wire is ready, or gone. */
  settle(link: LinkId): void {
    this.#dials.delete(link);
  }

  stop(reason: GoneReason): void {
    for (const one of [...this.#dials.values()]) {
      one.giveUp();
      one.wire?.goodbye(reason);
    }
    this.#dials.clear();
  }

  #shake(link: LinkId, peerId: string, socket: Socket): HardenedWire {
    const owner = this.#deps.ownerOf(link, socket);
    const wire: HardenedWire = new HardenedWire({
      ...this.#deps.self,
      socket,
      role: 'dialer',
      swarm: { ...this.#deps.swarm, peerId },
      owner: {
        ...owner.events,
        onSwarm: () => undefined,
        onReady: (peer) => owner.onReady(wire, peer, true),
      },
    });
    return wire;
  }
}
