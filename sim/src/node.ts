import { Bitfield } from '@sepia/shared/bitfield';
import type { KnownPeer, LinkId, SwarmEffect, SwarmEvent } from '@sepia/shared/swarm/core/events';
import type { CoreLimits } from '@sepia/shared/swarm/core/limits';
import { SwarmCore } from '@sepia/shared/swarm/core/swarm-core';
import type { VirtualClock } from './clock.ts';
import type { Network } from './network.ts';

/** Bytes that travel at once: a quarter of a piece, so that uploads to several peers mix. */
const CHUNK_BYTES = 256 * 1024;
const CHUNKS = 4;

interface Wire {
  readonly node: SimNode;
  readonly link: LinkId;
  open: boolean;
}

interface NodeInit {
  readonly name: string;
  readonly peerId: string;
  readonly origin: boolean;
  readonly full: boolean;
  readonly leech: boolean;
  readonly pieces: number;
  readonly knows: (index: number) => boolean;
  readonly seed: number;
  readonly clock: VirtualClock;
  readonly network: Network;
  readonly nodes: ReadonlyMap<string, SimNode>;
  readonly trace: (text: string) => void;
  readonly reader: boolean;
  readonly limits: Partial<CoreLimits>;
}

/** A simulated shell around one core. */
export class SimNode {
  readonly name: string;
  readonly origin: boolean;
  alive = true;
  stopped = false;
  corrupt = false;
  done = false;
  finishedMs: number | undefined;
  sentPieces = 0;
  duplicates = 0;
  badPieces = 0;
  readonly #init: NodeInit;
  readonly #core: SwarmCore;
  /** Our link → the other end. */
  readonly #wires = new Map<LinkId, Wire>();
  readonly #uploads: { to: Wire; index: number; chunk: number; bad: boolean }[] = [];
  /** Wires in the order of their turns. */
  readonly #turns = new Set<Wire>();
  #uploading = false;
  readonly #events: SwarmEvent[] = [];
  #handling = false;
  #readerAt = 0;

  constructor(init: NodeInit) {
    this.#init = init;
    this.name = init.name;
    this.origin = init.origin;
    this.#core = new SwarmCore({
      peerId: init.peerId,
      zone: '',
      pieceCount: init.pieces,
      have: init.full ? Bitfield.full(init.pieces) : new Bitfield(init.pieces),
      knows: init.knows,
      leech: init.leech,
      origin: init.origin,
      seed: init.seed,
      nowMs: 0,
      limits: init.limits,
    });
  }

  dbg() {
    return this.#core;
  }
  start(peers: readonly KnownPeer[]): void {
    if (this.#init.reader) this.tell({ type: 'reader', reader: 0, index: 0 });
    this.tell({ type: 'peers', peers });
  }

  /** The hash of a piece became known; at the fetching origin the piece lands too. */
  onKnown(index: number, lands: boolean): void {
    if (lands) this.tell({ type: 'landed', index });
    this.tell({ type: 'hashes' });
  }

  fail(kind: 'kill' | 'stop' | 'corrupt'): void {
    if (kind === 'corrupt') this.corrupt = true;
    else if (kind === 'stop') {
      this.stopped = true;
      this.alive = false;
    } else {
      this.alive = false;
      for (const [link] of [...this.#wires]) this.#closed(link, 'closed', true);
    }
  }

  tell(event: SwarmEvent): void {
    if (!this.alive) return;
    this.#events.push(event);
    if (this.#handling) return;
    this.#handling = true;
    for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
      this.#core.handle(next, this.#init.clock.nowMs, (effect) => this.#run(effect));
    }
    this.#handling = false;
  }

  #run(effect: SwarmEffect): void {
    const { clock, network, trace } = this.#init;
    const what = 'index' in effect ? effect.index : '';
    trace(
      `${clock.nowMs.toFixed(3)} ${this.name} ${effect.type} ${'link' in effect ? effect.link : ''} ${what}\n`,
    );
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
      case 'sendHave':
        this.#send(effect.link, (link) => ({ type: 'haves', link, indexes: [effect.index] }));
        return;
      case 'sendSuggest':
        this.#send(effect.link, (link) => ({ type: 'suggested', link, index: effect.index }));
        return;
      case 'fetch':
        this.#send(effect.link, (link) => ({ type: 'asked', link, index: effect.index }));
        return;
      case 'cancel': {
        const wire = this.#wires.get(effect.link);
        if (wire !== undefined) network.message(() => wire.node.#unqueue(wire.link, effect.index));
        return;
      }
      case 'refuse':
        this.#send(effect.link, (link) => ({
          type: 'fetchFailed',
          link,
          index: effect.index,
          busy: false,
        }));
        return;
      case 'readPiece': {
        const to = this.#wires.get(effect.link);
        if (to === undefined) return;
        this.sentPieces += 1;
        this.#turns.add(to);
        for (let chunk = 0; chunk < CHUNKS; chunk++)
          this.#uploads.push({ to, index: effect.index, chunk, bad: this.corrupt });
        this.#upload();
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
      case 'finish':
        this.done = true;
        this.finishedMs = clock.nowMs;
    }
  }

  #dial(link: LinkId, address: string): void {
    const { network, nodes } = this.#init;
    const other = nodes.get(address)!;
    network.message(() => {
      if (other.stopped) return;
      const now = this.#init.clock.nowMs;
      if (!other.alive || other.#core.welcome(this.name, now) !== 'yes') {
        return network.message(() => this.tell({ type: 'linkDown', link, reason: 'failed' }));
      }
      const theirs = other.#core.drawLink();
      const ours: Wire = { node: other, link: theirs, open: true };
      other.#wires.set(theirs, { node: this, link, open: true });
      this.#wires.set(link, ours);
      network.message(() => {
        if (this.#wires.has(link))
          this.tell({
            type: 'wireUp',
            link,
            peerId: other.name,
            origin: other.origin,
            zone: '',
            dialled: true,
          });
      });
      other.tell({
        type: 'wireUp',
        link: theirs,
        peerId: this.name,
        origin: this.origin,
        zone: '',
        dialled: false,
      });
    });
  }

  /** Messages on one wire keep their order: the clock runs equal times in order of asking. Bitfields wait for the other end's `wireUp`. */
  #send(link: LinkId, make: (theirs: LinkId) => SwarmEvent): void {
    const wire = this.#wires.get(link);
    if (wire === undefined) return;
    const event = make(wire.link);
    this.#init.network.message(() => {
      if (wire.node.#wires.has(wire.link)) wire.node.tell(event);
    });
  }

  #closed(
    link: LinkId,
    reason: Extract<SwarmEvent, { type: 'linkDown' }>['reason'],
    tellOther: boolean,
  ): void {
    const wire = this.#wires.get(link);
    this.#wires.delete(link);
    if (wire === undefined) return;
    this.tell({ type: 'linkDown', link, reason });
    if (!tellOther) return;
    this.#init.network.message(() =>
      wire.node.#closed(wire.link, reason === 'banned' ? 'gone' : reason, false),
    );
  }

  #unqueue(link: LinkId, index: number): void {
    const mine = this.#wires.get(link);
    for (let i = this.#uploads.length - 1; i >= 0; i--) {
      const one = this.#uploads[i]!;
      if (one.to === mine && one.index === index) this.#uploads.splice(i, 1);
    }
  }

  /** One chunk at a time, the wires in turn: what fair sockets do. */
  #upload(): void {
    if (this.#uploading || !this.alive) return;
    const turn = [...this.#turns].find((wire) => this.#uploads.some((one) => one.to === wire));
    const next = this.#uploads.find((one) => one.to === turn);
    if (turn === undefined || next === undefined) return;
    this.#uploads.splice(this.#uploads.indexOf(next), 1);
    this.#turns.delete(turn);
    this.#turns.add(turn);
    const { to, index, bad } = next;
    if (this.#wires.size === 0) return;
    this.#uploading = true;
    this.#init.network.transfer(
      this.name,
      to.node.name,
      CHUNK_BYTES,
      () => {
        this.#uploading = false;
        this.#upload();
      },
      () => {
        if (!to.node.#wires.has(to.link)) return;
        to.node.tell({ type: 'progress', link: to.link, index, bytes: CHUNK_BYTES });
        if (next.chunk === CHUNKS - 1) to.node.#arrived(to.link, index, !bad);
      },
    );
  }

  #arrived(link: LinkId, index: number, good: boolean): void {
    if (this.#core.links.get(link)?.fetches.has(index) !== true) {
      this.duplicates += 1;
      return;
    }
    this.tell({ type: 'fetched', link, index, good });
  }

  #written(index: number): void {
    this.tell({ type: 'written', index, ok: true });
    if (!this.#init.reader) return;
    const at = this.#core.have.nextMissing(this.#readerAt);
    if (at === this.#readerAt) return;
    this.#readerAt = at < 0 ? this.#init.pieces : at;
    this.tell(at < 0 ? { type: 'readerClosed', reader: 0 } : { type: 'reader', reader: 0, index: at });
  }
}
