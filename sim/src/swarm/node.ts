import type { Bitfield } from '@sepia/base/bitfield';
import type { KnownPeer, LinkId, SwarmEffect, SwarmEvent } from '@sepia/swarm/core/events';
import { SwarmCore } from '@sepia/swarm/core/swarm-core';
import type { HttpPort } from '../wire/http.ts';
import { HttpGets } from '../wire/http-gets.ts';
import type { Machine } from '../wire/machine.ts';
import { PIECE_BYTES } from '../wire/uplink.ts';
import { Disk } from './disk.ts';
import { HaveBatch } from './have-batch.ts';
import { checkAsked, checkCore } from './invariants.ts';
import type { Join, NodeInit } from './node-init.ts';
import { newWires, type Wire } from './node-wire.ts';
import { SimReader } from './reader.ts';

/** A simulated shell around one core. */
export class SimNode {
  // What each event looks at lies together.
  alive = true;
  #handling = false;
  readonly #init: NodeInit;
  readonly #core: SwarmCore;
  readonly name: string;
  readonly origin: boolean;
  readonly zone: string;
  /** Blocks that came over wires, and those of another zone. */
  blocks = 0;
  farBlocks = 0;
  /** Dials that wait for its start; undefined since then. Origins are there from the begin. */
  #early: (() => void)[] | undefined;
  stopped = false;
  corrupt = false;
  done = false;
  finishedMs: number | undefined;
  sentPieces = 0;
  duplicates = 0;
  badPieces = 0;
  /** What came after its piece was taken back. */
  lateBytes = 0;
  /** Our link → the other end. */
  readonly #wires = new Map<LinkId, Wire>();
  /** The same, to look them up. */
  readonly #wireOf: (Wire | undefined)[] = [];
  readonly #http: HttpGets;
  readonly #machine: Machine;
  #join: Join | undefined;
  #joining = false;
  #peer: KnownPeer | undefined;
  readonly #haves: HaveBatch;
  readonly #events: SwarmEvent[] = [];
  readonly reader: SimReader;
  readonly #disk: Disk;
  /** A piece that came from the swarm is on disk. */
  onWritten: ((index: number) => void) | undefined;

  constructor(init: NodeInit) {
    this.#init = init;
    this.name = init.name;
    this.origin = init.origin;
    this.#early = init.origin ? undefined : [];
    this.zone = init.zone;
    this.#machine = init.machine;
    const startMs = init.clock.nowMs;
    this.#core = new SwarmCore({
      peerId: init.peerId,
      zone: init.zone,
      pieceCount: init.pieces,
      have: init.have,
      knows: init.knows,
      leech: init.leech,
      origin: init.origin,
      seed: init.seed,
      nowMs: startMs,
      limits: init.limits,
      line: init.machine.line.place(),
    });
    this.#disk = new Disk(init.have);
    this.#http = new HttpGets(init.name, init.machine, (event) => this.tell(event));
    const { clock, network } = init;
    this.#haves = new HaveBatch({
      clock,
      network,
      port: init.machine.port,
      isAlive: () => this.alive,
      wireOf: (link) => this.#wireOf[link],
    });
    this.reader = new SimReader(this.#core.have, init.knows);
  }

  /** What a start after a crash finds; whoever has all of it has that for good. */
  get durable(): Bitfield {
    return this.#disk.durable(this.#init.clock.nowMs);
  }

  has(index: number): boolean {
    return this.#core.have.has(index);
  }

  /** How many pieces it has. */
  get pieces(): number {
    return this.#core.have.count;
  }

  /** What members hold that it is on wires with. */
  peerPieces(): Bitfield | undefined {
    return this.#core.links.peerPieces();
  }

  /** How others know it: always the same. */
  asPeer(): KnownPeer {
    const { name, origin, zone } = this;
    this.#peer ??= { peerId: name, addresses: [name], origin, zone };
    return this.#peer;
  }

  /** As agents begin: peers, then HTTP sources that say they have everything. Where there is a tracker both wait for its answer. */
  start(peers: readonly KnownPeer[], ports: readonly HttpPort[], join?: Join): void {
    this.#join = join;
    for (const dial of this.#early?.splice(0) ?? []) dial();
    this.#early = undefined;
    if (this.#init.reader) this.tell(this.reader.open(this.#init.clock.nowMs));
    if (join === undefined) this.#begin(peers, ports);
    else this.#askTracker((told) => this.#begin([...peers, ...told], ports));
  }

  #begin(peers: readonly KnownPeer[], ports: readonly HttpPort[]): void {
    this.tell({ type: 'peers', peers });
    for (const port of ports) {
      const link = this.#core.drawLink();
      this.#http.add(link, port);
      this.tell({ type: 'httpUp', link, has: () => true });
    }
  }

  /** The hash of a piece became known; at the fetching origin the piece lands too. */
  onKnown(index: number, lands: boolean): void {
    if (lands) this.#landed(index);
    this.reader.onKnown(index, this.#init.clock.nowMs);
    this.tell({ type: 'hashes' });
  }

  /** `crash`: it is killed and comes back. */
  fail(kind: 'kill' | 'stop' | 'corrupt' | 'crash'): void {
    if (kind !== 'corrupt' && kind !== 'crash' && this.alive && !this.done) this.#init.onEnd();
    if (kind !== 'corrupt') {
      this.#disk.die(this.#init.clock.nowMs);
      // Who starts again has nothing on its way.
      this.#core.leave();
    }
    if (kind === 'corrupt') this.corrupt = true;
    else if (kind === 'stop') {
      this.stopped = true;
      this.alive = false;
      this.#machine.uplink.die();
      this.#init.network.silence(this.name);
    } else {
      this.alive = false;
      this.#machine.uplink.die();
      for (const [link] of [...this.#wires]) this.#closed(link, 'closed', true);
    }
  }

  tell(event: SwarmEvent): void {
    if (!this.alive) return;
    if (this.#handling) {
      this.#events.push(event);
      return;
    }
    this.#handling = true;
    for (let next: SwarmEvent | undefined = event; next !== undefined; next = this.#events.shift()) {
      this.#core.handle(next, this.#init.clock.nowMs, this.#emit);
      if (this.#init.checked) checkCore(this.name, this.#core);
    }
    this.#handling = false;
  }

  /** It has all of it, since then. */
  ended(atMs: number): void {
    this.done = true;
    this.finishedMs = atMs;
    this.#disk.complete();
  }

  readonly #emit = (effect: SwarmEffect): void => {
    const { clock, trace, number } = this.#init;
    if (effect.type === 'sendHave') {
      // By far the most frequent.
      trace.addHave(clock.nowMs, number, effect.link, effect.index);
      if (this.#wireOf[effect.link] !== undefined) this.#haves.add(effect.link, effect.index);
      return;
    }
    const link = 'link' in effect ? effect.link : -1;
    const piece = 'index' in effect ? effect.index : -1;
    trace.add(clock.nowMs, number, effect.type, link, piece);
    switch (effect.type) {
      case 'dial':
        this.#dial(effect.link, effect.address);
        return;
      case 'close':
        this.#closed(effect.link, effect.reason, true);
        return;
      case 'sendBitfield': {
        const indexes = [...this.#core.have];
        this.#send(effect.link, (link) => ({ type: 'bitfield', link, indexes }));
        return;
      }
      case 'sendSuggest':
        this.#send(effect.link, (link) => ({ type: 'suggested', link, index: effect.index }));
        return;
      case 'fetch':
        if (this.#init.checked) checkAsked(this.name, this.#core, effect.index);
        this.#fetch(effect.link, effect.index);
        return;
      case 'cancel':
        this.#cancel(effect.link, effect.index);
        return;
      case 'refuse':
        this.#send(effect.link, (link) => ({ type: 'fetchFailed', link, index: piece, busy: false }));
        return;
      case 'readPiece': {
        const to = this.#wireOf[effect.link];
        if (to !== undefined) this.#upload(to, effect.index);
        return;
      }
      case 'writePiece':
        clock.at(clock.nowMs + 0.2, () => this.#written(effect.index));
        return;
      case 'dropPiece':
        if (effect.bad) this.badPieces += 1;
        else this.duplicates += 1;
        return;
      case 'setTimer':
        clock.at(effect.atMs, () => this.tell({ type: 'timer', key: effect.key }));
        return;
      case 'wantPeers':
        this.#askTracker(this.#learn);
        return;
      case 'finish':
        this.ended(clock.nowMs);
        // Now it is a seed.
        this.#askTracker(this.#learn);
        this.#init.onEnd();
    }
  };

  /** Joins, now and again while pieces are lacking. */
  #askTracker(told: (peers: readonly KnownPeer[]) => void): void {
    if (this.#join === undefined || this.#joining) return;
    this.#joining = true;
    this.#join(this.asPeer(), !this.done, ({ peers, intervalMs }) => {
      this.#joining = false;
      told(peers);
      const { clock } = this.#init;
      clock.at(clock.nowMs + intervalMs, () => {
        if (this.alive && !this.done) this.#askTracker(this.#learn);
      });
    });
  }

  readonly #learn = (peers: readonly KnownPeer[]): void => this.tell({ type: 'peers', peers });

  #dial(link: LinkId, address: string): void {
    const { clock, network, nodes, dialMs } = this.#init;
    const other = nodes.get(address)!;
    if (network.isCut(this.#machine.port, other.#machine.port)) {
      const failed: SwarmEvent = { type: 'linkDown', link, reason: 'failed' };
      clock.at(clock.nowMs + this.#core.limits.dialMs, () => this.tell(failed));
      return;
    }
    const reach = (): void => {
      if (other.stopped) return;
      const now = this.#init.clock.nowMs;
      if (!other.alive || other.#core.welcome(this.name, now) !== 'yes') {
        network.message(() => this.tell({ type: 'linkDown', link, reason: 'failed' }));
        return;
      }
      const theirs = other.#core.drawLink();
      const near = { node: this, link, port: this.#machine.port };
      const wire = newWires(near, { node: other, link: theirs, port: other.#machine.port });
      other.#keep(theirs, wire.back!);
      this.#keep(link, wire);
      network.message(() => {
        if (this.#wires.has(link)) this.#up(link, other, true);
      });
      other.#up(theirs, this, false);
    };
    clock.at(clock.nowMs + network.latencyMs + dialMs, () => other.#whenStarted(reach));
  }

  #keep(link: LinkId, wire: Wire): void {
    this.#wires.set(link, wire);
    this.#wireOf[link] = wire;
  }

  #whenStarted(run: () => void): void {
    if (this.#early === undefined) run();
    else this.#early.push(run);
  }

  #up(link: LinkId, { name: peerId, origin, zone }: SimNode, dialled: boolean): void {
    this.tell({ type: 'wireUp', link, peerId, origin, zone, dialled });
  }

  /** Messages on one wire keep their order: the clock runs equal times in order of asking. Bitfields wait for the other end's `wireUp`. */
  #send(link: LinkId, make: (theirs: LinkId) => SwarmEvent): void {
    const wire = this.#wireOf[link];
    if (wire === undefined) return;
    const event = make(wire.link);
    const there = wire.flow.to;
    this.#init.network.message(
      () => {
        if (wire.back?.isOpen === true) wire.node.tell(event);
      },
      this.#machine.port,
      there,
    );
  }

  #closed(
    link: LinkId,
    reason: Extract<SwarmEvent, { type: 'linkDown' }>['reason'],
    tellOther: boolean,
  ): void {
    const wire = this.#wireOf[link];
    this.#wires.delete(link);
    this.#wireOf[link] = undefined;
    if (wire === undefined) return;
    wire.isOpen = false;
    this.#machine.uplink.drop(wire.flow);
    this.tell({ type: 'linkDown', link, reason });
    if (!tellOther) return;
    this.#init.network.message(
      () => wire.node.#closed(wire.link, reason === 'banned' ? 'gone' : reason, false),
      this.#machine.port,
      wire.flow.to,
    );
  }

  #fetch(link: LinkId, index: number): void {
    if (this.#http.get(link, index)) return;
    this.#send(link, (theirs) => ({ type: 'asked', link: theirs, index }));
  }

  #cancel(link: LinkId, index: number): void {
    this.#http.cancel(link, index);
    const wire = this.#wireOf[link];
    if (wire === undefined) return;
    this.#init.network.message(() => {
      const back = wire.node.#wireOf[wire.link];
      if (back !== undefined) wire.node.#machine.uplink.cancel(back.flow, index);
    });
  }

  #upload(to: Wire, index: number): void {
    this.sentPieces += 1;
    const bad = this.corrupt;
    const { uplink } = this.#machine;
    this.#machine.sending(PIECE_BYTES, () => {
      if (!this.alive || to.back?.isOpen !== true) return;
      uplink.send(to.flow, index, (last) => to.node.#onBlock(to.back!, index, last, bad));
    });
  }

  /** A block came over a wire of this node. */
  #onBlock(wire: Wire, index: number, last: boolean, bad: boolean): void {
    if (!wire.isOpen) return;
    const { blockBytes } = this.#machine.uplink;
    const link = wire.back!.link;
    if (!this.#core.isAsked(link, index)) {
      this.lateBytes += blockBytes;
      return;
    }
    this.blocks += 1;
    if (wire.node.zone !== this.zone) this.farBlocks += 1;
    this.tell({ type: 'progress', link, index, bytes: blockBytes });
    if (!last) return;
    this.#machine.received(PIECE_BYTES, () => {
      if (wire.isOpen) this.tell({ type: 'fetched', link, index, good: !bad });
    });
  }

  #landed(index: number): void {
    this.tell({ type: 'landed', index });
    this.#disk.write(index, this.#init.clock.nowMs);
  }

  #written(index: number): void {
    this.#disk.write(index, this.#init.clock.nowMs);
    this.tell({ type: 'written', index, ok: true });
    this.onWritten?.(index);
    const moved = this.#init.reader ? this.reader.read(this.#init.clock.nowMs) : undefined;
    if (moved !== undefined) this.tell(moved);
  }
}
