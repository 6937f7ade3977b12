import type { Socket } from 'node:net';
import { CodedError } from '@sepia/base/errors';
import type { LinkId } from '../core/events.ts';
import { isStrangerId } from '../core/strangers/stranger-id.ts';
import { HardenedWire } from '../wire/wire.ts';
import type { GoneReason } from '../wire/wire-extensions.ts';
import type { LinkOwner, PieceWire, WireInit } from '../wire/wire-owner.ts';
import type { SwarmNet } from './net.ts';

/** A wire that is not ready yet. */
type Dialled = Pick<PieceWire, 'goodbye'>;

interface DialsDeps {
  readonly net: SwarmNet;
  readonly timeoutMs: number;
  /** What this member is, for the handshake. */
  readonly self: Pick<WireInit, 'clusterKey' | 'peerId' | 'origin' | 'zone'>;
  readonly swarm: { readonly id: Uint8Array; readonly sizeBytes: number };
  /** What is to listen to the wire of `link`. */
  readonly ownerOf: (link: LinkId, socket: Socket) => LinkOwner;
  /** Makes the wire of a stranger; undefined: none may be had now. */
  readonly strangerWire: (link: LinkId, socket: Socket, peerId: string) => Dialled | undefined;
  readonly onFailed: (link: LinkId, error: unknown) => void;
}

/** Wires of one swarm that this side dials, until the other end proved the cluster key. */
export class Dials {
  readonly #deps: DialsDeps;
  readonly #dials = new Map<LinkId, { giveUp: () => void; wire?: Dialled }>();

  constructor(deps: DialsDeps) {
    this.#deps = deps;
  }

  start(link: LinkId, peerId: string, address: string): void {
    const slot: { giveUp: () => void; wire?: Dialled } = { giveUp: () => {} };
    this.#dials.set(link, slot);
    try {
      const done = (socket: Socket | undefined, error?: CodedError): void => {
        if (socket === undefined) {
          this.#dials.delete(link);
          this.#deps.onFailed(link, error);
          return;
        }
        const wire = this.#shake(link, peerId, socket);
        if (wire === undefined) this.#fail(link);
        else slot.wire = wire;
      };
      slot.giveUp = this.#deps.net.dial(address, this.#deps.timeoutMs, done, isStrangerId(peerId));
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

  #fail(link: LinkId): void {
    this.#dials.delete(link);
    this.#deps.onFailed(link, new CodedError('TIMEOUT', { message: 'strangers take no part any more' }));
  }

  #shake(link: LinkId, peerId: string, socket: Socket): Dialled | undefined {
    if (isStrangerId(peerId)) return this.#deps.strangerWire(link, socket, peerId);
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
