import type { Chance } from '@sepia/swarm/core/random';
import type { VirtualClock } from '../wire/clock.ts';
import type { Network, Port } from '../wire/network.ts';
import { type Flow, newFlow, PIECE_BYTES, Uplink } from '../wire/uplink.ts';
import { KRAKEN_LIMITS } from './kraken-limits.ts';
import { choosePieces, type KrakenPolicy } from './kraken-requests.ts';

/** One end of a connection. */
interface Conn {
  readonly peer: KrakenPeer;
  readonly flow: Flow;
  /** Pieces that the other end is known to have. */
  readonly there: Uint8Array;
  /** Piece → when it was asked for. */
  readonly asked: Map<number, number>;
  lastPieceMs: number;
}

interface PeerInit {
  readonly name: string;
  readonly origin: boolean;
  readonly clock: VirtualClock;
  readonly network: Network;
  /** Length of the blob in the units that the network's uplinks take, 1 MiB. */
  readonly units: number;
  readonly blockBytes: number;
  readonly policy: KrakenPolicy;
  readonly chance: Chance;
  readonly announce: (asker: KrakenPeer) => readonly KrakenPeer[];
}

const UNITS = KRAKEN_LIMITS.pieceBytes / PIECE_BYTES;

/** An agent or an origin of Kraken in one torrent, after its scheduler: announces, connections, whole pieces from each. */
export class KrakenPeer {
  readonly name: string;
  readonly origin: boolean;
  readonly port: Port;
  /** The tracker has heard of it. */
  isKnown = false;
  finishedMs: number | undefined;
  /** Pieces that came although they were here. */
  duplicates = 0;
  readonly #init: PeerInit;
  readonly #uplink: Uplink;
  readonly #pieces: number;
  readonly #have: Uint8Array;
  readonly #rarity: Int32Array;
  readonly #conns = new Map<string, Conn>();
  readonly #pending = new Set<string>();
  /** Name → until when it is not dialled. */
  readonly #blacklist = new Map<string, number>();
  /** Piece → of how many it is asked. */
  readonly #asked: Uint8Array;
  #missing: number;

  constructor(init: PeerInit) {
    this.#init = init;
    this.name = init.name;
    this.origin = init.origin;
    this.port = init.network.port(init.name);
    this.#uplink = new Uplink(this.port, init.network, init.blockBytes);
    this.#pieces = Math.ceil(init.units / UNITS);
    this.#have = new Uint8Array(this.#pieces).fill(init.origin ? 1 : 0);
    this.#rarity = new Int32Array(this.#pieces);
    this.#asked = new Uint8Array(this.#pieces);
    this.#missing = init.origin ? 0 : this.#pieces;
  }

  get complete(): boolean {
    return this.#missing === 0;
  }

  /** How much of the blob is here. */
  get units(): number {
    return Math.min(this.#init.units, (this.#pieces - this.#missing) * UNITS);
  }

  get connections(): number {
    return this.#conns.size + this.#pending.size;
  }

  /** Begins to download. */
  start(): void {
    this.#announce();
    this.#every(KRAKEN_LIMITS.requestMs / 2, () => this.#sweep());
    this.#every(KRAKEN_LIMITS.idleMs, () => this.#closeIdle());
  }

  /** Runs `run` again and again until all is here. */
  #every(ms: number, run: () => void): void {
    this.#init.clock.at(this.#init.clock.nowMs + ms, () => {
      if (this.complete) return;
      run();
      this.#every(ms, run);
    });
  }

  #announce(): void {
    const { clock, network, announce } = this.#init;
    const again = (): void => {
      if (!this.complete) this.#announce();
    };
    clock.at(clock.nowMs + KRAKEN_LIMITS.announceMs, again);
    if (this.#conns.size >= KRAKEN_LIMITS.connections) return;
    network.message(() => {
      const peers = announce(this);
      network.message(() => {
        for (const peer of peers) this.#dial(peer);
      });
    });
  }

  #dial(peer: KrakenPeer): void {
    const { clock, network } = this.#init;
    const { name } = peer;
    if (this.complete || this.connections >= KRAKEN_LIMITS.connections) return;
    if (this.#conns.has(name) || this.#pending.has(name)) return;
    if ((this.#blacklist.get(name) ?? 0) > clock.nowMs) return;
    this.#pending.add(name);
    // A round trip for TCP; then bitfields go across and back.
    network.message(() => network.message(() => network.message(() => this.#knock(peer))));
  }

  /** Runs at the other end. */
  #knock(peer: KrakenPeer): void {
    const isIn = peer.#accept(this);
    this.#init.network.message(() => {
      this.#pending.delete(peer.name);
      if (!isIn) this.#shun(peer);
      else if (!peer.#conns.has(this.name)) this.#shun(peer);
      else this.#connect(peer);
    });
  }

  /** Full, connected, or half open: also where both dialled each other at once. */
  #accept(peer: KrakenPeer): boolean {
    if (this.connections >= KRAKEN_LIMITS.connections) return false;
    if (this.#conns.has(peer.name) || this.#pending.has(peer.name)) return false;
    this.#connect(peer);
    return true;
  }

  #connect(peer: KrakenPeer): void {
    const there = Uint8Array.from(peer.#have);
    const { nowMs } = this.#init.clock;
    const conn = { peer, flow: newFlow(peer.port), there, asked: new Map(), lastPieceMs: nowMs };
    this.#conns.set(peer.name, conn);
    for (let index = 0; index < this.#pieces; index++) this.#rarity[index]! += there[index]!;
    this.#request(conn);
  }

  #request(conn: Conn): void {
    const { pipeline, originPipeline } = KRAKEN_LIMITS;
    const room = (conn.peer.origin ? originPipeline : pipeline) - conn.asked.size;
    if (room <= 0 || this.complete) return;
    const chosen = choosePieces(
      {
        missing: this.#missing,
        have: this.#have,
        there: conn.there,
        asked: this.#asked,
        isAskedHere: (index) => conn.asked.has(index),
        rarity: (index) => this.#rarity[index]!,
      },
      room,
      this.#init.policy,
      this.#init.chance,
    );
    for (const index of chosen) this.#ask(conn, index);
  }

  #ask(conn: Conn, index: number): void {
    conn.asked.set(index, this.#init.clock.nowMs);
    this.#asked[index]! += 1;
    this.#init.network.message(() => conn.peer.#serve(this, index));
  }

  #unask(conn: Conn, index: number): void {
    if (conn.asked.delete(index)) this.#asked[index]! -= 1;
  }

  #serve(to: KrakenPeer, index: number): void {
    const conn = this.#conns.get(to.name);
    if (conn === undefined) return;
    const units = Math.min(UNITS, this.#init.units - index * UNITS);
    for (let unit = 1; unit <= units; unit++)
      this.#uplink.send(conn.flow, index, (last) => {
        if (!last || unit < units) return;
        conn.there[index] = 1;
        conn.lastPieceMs = this.#init.clock.nowMs;
        to.#onPiece(this.name, index);
      });
  }

  #onPiece(from: string, index: number): void {
    const conn = this.#conns.get(from);
    if (conn === undefined) return;
    this.#unask(conn, index);
    conn.lastPieceMs = this.#init.clock.nowMs;
    if (this.#have[index] === 1) this.duplicates += 1;
    else this.#keep(index, conn);
    this.#request(conn);
  }

  #keep(index: number, from: Conn): void {
    const { clock, network } = this.#init;
    this.#have[index] = 1;
    this.#missing -= 1;
    const isLast = this.complete;
    for (const { peer } of this.#conns.values())
      if (isLast || peer !== from.peer)
        network.message(() => (isLast ? peer.#onComplete(this.name) : peer.#onAnnounce(this.name, index)));
    if (!isLast) return;
    this.finishedMs = clock.nowMs;
    this.#blacklist.clear();
    network.message(() => this.#init.announce(this));
    for (const conn of [...this.#conns.values()]) if (conn.there.every((one) => one === 1)) this.#close(conn);
  }

  #onAnnounce(from: string, index: number): void {
    const conn = this.#conns.get(from);
    if (conn === undefined) return;
    conn.there[index] = 1;
    this.#rarity[index]! += 1;
    this.#request(conn);
  }

  /** All bits are set, and not counted. */
  #onComplete(from: string): void {
    const conn = this.#conns.get(from);
    if (conn === undefined) return;
    conn.there.fill(1);
    if (this.complete) this.#close(conn);
    else this.#request(conn);
  }

  /** What is late is asked of the first other that has it and room. */
  #sweep(): void {
    const { nowMs } = this.#init.clock;
    for (const conn of this.#conns.values())
      for (const [index, askedMs] of conn.asked) {
        if (nowMs - askedMs < KRAKEN_LIMITS.requestMs) continue;
        this.#unask(conn, index);
        const other = [...this.#conns.values()].find(
          (one) =>
            one !== conn &&
            one.there[index] === 1 &&
            !one.asked.has(index) &&
            one.asked.size < KRAKEN_LIMITS.pipeline,
        );
        if (other !== undefined && this.#have[index] === 0) this.#ask(other, index);
      }
  }

  #closeIdle(): void {
    const { nowMs } = this.#init.clock;
    for (const conn of [...this.#conns.values()])
      if (nowMs - conn.lastPieceMs >= KRAKEN_LIMITS.idleMs) this.#close(conn);
  }

  #close(conn: Conn): void {
    this.#drop(conn);
    const back = conn.peer.#conns.get(this.name);
    if (back !== undefined) this.#init.network.message(() => conn.peer.#drop(back));
  }

  #drop(conn: Conn): void {
    if (this.#conns.get(conn.peer.name) !== conn) return;
    this.#conns.delete(conn.peer.name);
    this.#uplink.drop(conn.flow);
    for (let index = 0; index < this.#pieces; index++) this.#rarity[index]! -= conn.there[index]!;
    for (const index of [...conn.asked.keys()]) this.#unask(conn, index);
    this.#shun(conn.peer);
  }

  #shun(peer: KrakenPeer): void {
    if (!this.complete) this.#blacklist.set(peer.name, this.#init.clock.nowMs + KRAKEN_LIMITS.blacklistMs);
  }
}
