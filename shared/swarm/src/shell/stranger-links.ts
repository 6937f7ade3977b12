import type { Socket } from 'node:net';
import { withoutPrefix } from '@sepia/base/networks';
import type { LinkId } from '../core/events.ts';
import { Invitations } from '../core/strangers/invitations.ts';
import { banIdOf, strangerId } from '../core/strangers/stranger-id.ts';
import { WIRE_LIMITS } from '../limits.ts';
import { StrangerWire } from '../wire/stranger-wire.ts';
import type { WireRole } from '../wire/wire-auth.ts';
import type { LinkOwner } from '../wire/wire-owner.ts';
import type { PeerLink } from './peer-link.ts';
import type { Seat, StrangerRoom } from './stranger-room.ts';

interface StrangerLinksDeps {
  readonly room: StrangerRoom;
  /** Ours, 20 bytes. */
  readonly peerId: Uint8Array;
  readonly sizeBytes: number;
  readonly drawLink: () => LinkId;
  readonly dial: (strangerId: string, address: string) => void;
  readonly isWelcome: (strangerId: string) => boolean;
  /** Wires at once; those that have not shaken hands yet count too. */
  readonly mostWires: number;
  readonly ownerOf: (link: LinkId, socket: Socket) => LinkOwner;
  readonly linkOf: (link: LinkId) => PeerLink | undefined;
  readonly onChoke: (link: LinkId, on: boolean) => void;
  /** Some piece is wanted here. */
  readonly isWanting: () => boolean;
  /** The torrent is open or closed from now on. */
  readonly onOpen: (infoHash: string, open: boolean) => void;
}

/** Wires of one swarm to peers that are no members, while the cluster lets them take part. */
export class StrangerLinks {
  readonly #deps: StrangerLinksDeps;
  readonly #wires = new Set<StrangerWire>();
  /** Who each is, without its port. */
  readonly #hosts = new Map<StrangerWire, string>();
  readonly #invitations = new Invitations();
  #infoHash: Uint8Array | undefined;
  #closing: NodeJS.Timeout | undefined;

  constructor(deps: StrangerLinksDeps) {
    this.#deps = deps;
  }

  /** Opens the swarm under this infohash (20 bytes, copied) for so long; a later call prolongs it. */
  admit(infoHash: Uint8Array, ttlMs: number): void {
    if (this.#infoHash !== undefined && Buffer.compare(this.#infoHash, infoHash) !== 0) this.close();
    if (this.#infoHash === undefined) {
      this.#infoHash = new Uint8Array(infoHash);
      this.#deps.onOpen(hexOf(infoHash), true);
    }
    clearTimeout(this.#closing);
    this.#closing = setTimeout(() => this.close(), ttlMs);
    this.#closing.unref();
  }

  /** Ends what strangers do here. Idempotent. */
  close(): void {
    clearTimeout(this.#closing);
    if (this.#infoHash === undefined) return;
    this.#deps.onOpen(hexOf(this.#infoHash), false);
    this.#infoHash = undefined;
    for (const wire of [...this.#wires]) wire.goodbye('dropped');
  }

  /** Dials strangers that want something of us, where nobody of their host is here yet. */
  invite(addresses: readonly string[]): void {
    if (this.#infoHash === undefined) return;
    for (const address of this.#invitations.choose(addresses, this.#hosts.values()))
      this.#deps.dial(strangerId(address), address);
  }

  /** Somebody dialled us and named this torrent; `bytes`: all that it sent. */
  accept(socket: Socket, bytes: Uint8Array): void {
    const { isWelcome, mostWires, drawLink } = this.#deps;
    const address = addressOf(socket);
    const mayCome = this.#infoHash !== undefined && this.#wires.size < mostWires;
    if (!mayCome || address === undefined || !isWelcome(strangerId(address))) {
      socket.destroy();
      return;
    }
    this.#make(drawLink(), socket, 'listener', strangerId(address)).receive(bytes);
  }

  /** We dialled somebody; undefined if the torrent was closed meanwhile. */
  dialled(link: LinkId, socket: Socket, peerId: string): StrangerWire | undefined {
    if (this.#infoHash !== undefined) return this.#make(link, socket, 'dialer', peerId);
    socket.destroy();
    return undefined;
  }

  /** Whether something is wanted here has changed. */
  wishChanged(): void {
    for (const wire of this.#wires) wire.interest(this.#deps.isWanting());
  }

  #make(link: LinkId, socket: Socket, role: WireRole, peerId: string): StrangerWire {
    const { room, ownerOf, linkOf, onChoke, isWanting, sizeBytes } = this.#deps;
    const owner = ownerOf(link, socket);
    const seat: Seat = {
      choke: (on) => {
        wire.choke(on);
        if (on) linkOf(link)?.dropRequests();
      },
    };
    const wire: StrangerWire = new StrangerWire({
      socket,
      role,
      peerId: this.#deps.peerId,
      infoHash: this.#infoHash!,
      sizeBytes,
      owner: {
        ...owner.events,
        onReady: () => {
          const blockBytes = WIRE_LIMITS.strangerBlockBytes;
          const peer = { peerId, origin: false, zone: '', blockBytes, isStranger: true };
          owner.onReady(wire, peer, role === 'dialer');
          wire.interest(isWanting());
        },
        onChoke: (on) => onChoke(link, on),
        onInterest: (on) => (on ? room.ask(seat) : room.leave(seat)),
        onClosed: (gone, error) => {
          this.#wires.delete(wire);
          this.#hosts.delete(wire);
          room.leave(seat);
          owner.events.onClosed(gone, error);
        },
      },
    });
    this.#wires.add(wire);
    this.#hosts.set(wire, banIdOf(peerId));
    return wire;
  }
}

function addressOf(socket: Socket): string | undefined {
  const { remoteAddress, remotePort } = socket;
  if (remoteAddress === undefined || remotePort === undefined) return undefined;
  const host = withoutPrefix(remoteAddress);
  return host.includes(':') ? `[${host}]:${remotePort}` : `${host}:${remotePort}`;
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
