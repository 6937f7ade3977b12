import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import type { Bitfield } from '@sepia/base/bitfield';
import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { pieceLength } from '@sepia/metainfo/tree';
import type { LinkId, SwarmEffect, SwarmEvent } from '../core/events.ts';
import { CORE_LIMITS } from '../core/limits.ts';
import type { Arrived, LinePlace } from '../core/line/shared-line.ts';
import { strangerId } from '../core/strangers/stranger-id.ts';
import { SwarmCore } from '../core/swarm-core.ts';
import type {
  HttpSource,
  JoinInit,
  LentBytes,
  PeerAddress,
  PieceFrom,
  Reader,
  Swarm,
  SwarmStats,
} from '../swarm.ts';
import type { GoneReason } from '../wire/wire-extensions.ts';
import type { LinkOwner } from '../wire/wire-owner.ts';
import { Arrivals } from './arrivals.ts';
import { Dials } from './dials.ts';
import type { EngineParts } from './engine-parts.ts';
import { FreshPieces } from './fresh-pieces.ts';
import { HttpLinks } from './http-links.ts';
import { type LinkDeps, linkOwner } from './link-owner.ts';
import { Listeners } from './listeners.ts';
import type { PeerLink } from './peer-link.ts';
import { StrangerLinks } from './stranger-links.ts';

/** Sockets, disk, timers and hashes of one swarm around its {@link SwarmCore}. */
export class SwarmShell implements Swarm {
  readonly digest: Digest;
  readonly metainfo: Metainfo;
  readonly id: Uint8Array;
  leech: boolean;
  readonly #parts: EngineParts;
  readonly #core: SwarmCore;
  readonly #line: LinePlace;
  readonly #onLeave: () => void;
  readonly #links = new Map<LinkId, PeerLink>();
  readonly #http: HttpLinks;
  readonly #dials: Dials;
  readonly #arrivals: Arrivals;
  readonly #fresh: FreshPieces;
  readonly #strangers: StrangerLinks;
  readonly #linkDeps: LinkDeps;
  readonly #events: SwarmEvent[] = [];
  #handling = false;
  #left = false;
  #timer: NodeJS.Timeout | undefined;
  #uploadedBytes = 0;
  readonly #onPiece: Listeners<[number, PieceFrom]>;
  readonly #onComplete: Listeners<[]>;
  readonly #onBad: Listeners<[{ index: number; peerId: string }]>;
  readonly #onWant: Listeners<[]>;
  readonly #wake = (): void => this.#tell({ type: 'buffers' });

  constructor(parts: EngineParts, id: Uint8Array, join: JoinInit, seed: number, onLeave: () => void) {
    this.#parts = parts;
    this.#line = parts.line.place();
    this.#onLeave = onLeave;
    this.id = id;
    this.digest = join.digest;
    this.metainfo = join.metainfo;
    this.leech = join.leech;
    const onError = (error: unknown): void =>
      logFailure(parts.log, error, 'swarm listener failed', { digest: join.digest });
    this.#onPiece = new Listeners(onError);
    this.#onComplete = new Listeners(onError);
    this.#onBad = new Listeners(onError);
    this.#onWant = new Listeners(onError);
    this.#core = new SwarmCore({
      peerId: Buffer.from(parts.peerId).toString('hex'),
      zone: parts.zone,
      pieceCount: join.metainfo.pieceCount,
      have: join.pieces.have,
      knows: (index) => join.metainfo.knows(index),
      leech: join.leech,
      wantAll: join.wantAll ?? true,
      origin: parts.origin,
      seed,
      nowMs: performance.now(),
      limits: parts.limits,
      bans: parts.bans,
      line: this.#line,
    });
    this.#fresh = new FreshPieces(parts.slabs, {
      opened: (reader, index, last) =>
        this.#tell({ type: 'reader', reader, index, ...(last === undefined ? {} : { last }) }),
      moved: (reader, index) => this.#tell({ type: 'reader', reader, index }),
      closed: (reader) => this.#tell({ type: 'readerClosed', reader }),
    });
    this.#arrivals = new Arrivals({
      metainfo: join.metainfo,
      pieces: join.pieces,
      slabs: parts.slabs,
      fresh: this.#fresh,
      log: parts.log,
      tell: (event) => this.#tell(event),
      onKept: (index, from) => this.#onPiece.call(index, from),
      onBad: (bad) => this.#onBad.call(bad),
    });
    this.#linkDeps = {
      ...join,
      sizeBytes: join.metainfo.sizeBytes,
      slabs: parts.slabs,
      arrivals: this.#arrivals,
      warnings: parts.warnings,
      links: this.#links,
      isLeft: () => this.#left,
      settle: (link) => this.#dials.settle(link),
      onSent: (bytes) => {
        this.#uploadedBytes += bytes;
      },
      tell: (event) => this.#tell(event),
    };
    this.#strangers = this.#strangerLinks();
    this.#dials = new Dials({
      net: parts.net,
      timeoutMs: parts.limits.dialMs ?? CORE_LIMITS.dialMs,
      self: { clusterKey: parts.clusterKey, peerId: parts.peerId, origin: parts.origin, zone: parts.zone },
      swarm: { id, sizeBytes: join.metainfo.sizeBytes },
      ownerOf: (link, socket) => this.#owner(link, socket),
      strangerWire: (link, socket, peerId) => this.#strangers.dialled(link, socket, peerId),
      onFailed: (link, error) => {
        if (!isCoded(error, 'TIMEOUT')) logFailure(parts.log, error, 'peer address is not valid');
        this.#tell({ type: 'linkDown', link, reason: 'failed' });
      },
    });
    this.#http = this.#httpLinks();
    this.#tell({ type: 'hashes' });
  }

  addPeers(peers: readonly PeerAddress[]): void {
    this.#tell({ type: 'peers', peers: peers.map((peer) => ({ ...peer, zone: peer.zone ?? '' })) });
  }

  setHttpSources(sources: readonly HttpSource[]): void {
    if (!this.#left) this.#http.set(sources, () => this.#core.drawLink());
  }

  admitStrangers(infoHash: Uint8Array, ttlMs: number): void {
    if (!this.#left) this.#strangers.admit(infoHash, ttlMs);
  }

  addStrangers(addresses: readonly string[]): void {
    if (!this.#isWanting) this.#strangers.invite(addresses);
    else
      this.addPeers(addresses.map((one) => ({ peerId: strangerId(one), addresses: [one], origin: false })));
  }

  /** Somebody dialled us and named our torrent; `bytes`: all that it sent. */
  acceptStranger(socket: Socket, bytes: Uint8Array): void {
    this.#strangers.accept(socket, bytes);
  }

  metainfoChanged(): void {
    this.#tell({ type: 'hashes' });
  }

  pieceLanded(index: number): void {
    this.#tell({ type: 'landed', index });
  }

  openReader(pieceIndex: number, lastPiece?: number): Reader {
    return this.#fresh.openReader(pieceIndex, lastPiece);
  }

  lend(index: number): LentBytes | undefined {
    return this.#fresh.lend(index);
  }

  onPiece(listener: (index: number, from: PieceFrom) => void): () => void {
    return this.#onPiece.add(listener);
  }

  onComplete(listener: () => void): () => void {
    let fired = false;
    const off = this.#onComplete.add(() => {
      if (!fired) listener();
      fired = true;
    });
    if (this.#core.have.complete) queueMicrotask(() => this.#onComplete.call());
    return off;
  }

  onBadPiece(listener: (bad: { index: number; peerId: string }) => void): () => void {
    return this.#onBad.add(listener);
  }

  onWantPeers(listener: () => void): () => void {
    return this.#onWant.add(listener);
  }

  stats(): SwarmStats {
    const links = [...this.#links.values()].map((link) => ({
      peerId: link.peer.peerId,
      address: link.address,
      origin: link.peer.origin,
      pieces: this.#core.links.get(link.id)?.has.count ?? 0,
      downBytes: link.wire.line.downloadedBytes,
      upBytes: link.wire.line.uploadedBytes,
    }));
    return { ...this.#arrivals.stats, uploadedBytes: this.#uploadedBytes, links };
  }

  arrived(): Arrived {
    return this.#line.arrived();
  }

  setLeech(leech: boolean): void {
    this.leech = leech;
    this.#tell({ type: 'leech', on: leech });
    this.#strangers.wishChanged();
  }

  peerPieces(): Bitfield | undefined {
    return this.#core.links.peerPieces();
  }

  wantAll(): void {
    this.#tell({ type: 'wantAll' });
  }

  leave(): void {
    this.stop('dropped');
  }

  /** Ends all wires with this reason. Idempotent. */
  stop(reason: GoneReason): void {
    if (this.#left) return;
    this.#left = true;
    clearTimeout(this.#timer);
    this.#core.leave();
    this.#parts.slabs.forget(this.#wake);
    this.#strangers.close();
    this.#dials.stop(reason);
    for (const link of [...this.#links.values()]) link.wire.goodbye(reason);
    this.#http.stop();
    this.#arrivals.stop();
    this.#fresh.stop();
    for (const one of [this.#onPiece, this.#onComplete, this.#onBad, this.#onWant]) one.clear();
    this.#onLeave();
  }

  /** Whether a peer that dials may come in; otherwise what to tell it. */
  welcome(peerIdHex: string): GoneReason | undefined {
    const answer = this.#core.welcome(peerIdHex, performance.now());
    return answer === 'yes' ? undefined : answer;
  }

  /** What is to listen to an inbound wire that proved the key; its `onReady` comes next. */
  accept(socket: Socket): LinkOwner {
    return this.#owner(this.#core.drawLink(), socket);
  }

  get #isWanting(): boolean {
    return this.leech && !this.#core.have.complete;
  }

  #httpLinks(): HttpLinks {
    const { slabs, log } = this.#parts;
    const lengthOf = (index: number): number => pieceLength(this.metainfo.sizeBytes, index);
    return new HttpLinks({
      ...{ slabs, log, lengthOf },
      tell: (event) => this.#tell(event),
      onPiece: (link, index, slab, peerId) =>
        this.#arrivals.add(link, index, { slab, lengthBytes: lengthOf(index), from: 'origin', peerId }),
    });
  }

  #strangerLinks(): StrangerLinks {
    const { strangers: room, torrents, peerId } = this.#parts;
    return new StrangerLinks({
      room,
      peerId,
      sizeBytes: this.metainfo.sizeBytes,
      drawLink: () => this.#core.drawLink(),
      isWelcome: (id) => this.#core.welcome(id, performance.now()) === 'yes',
      mostWires: this.#core.limits.strangerWires,
      ownerOf: (link, socket) => linkOwner(this.#linkDeps, link, socket, { budget: room.budget, gate: room }),
      linkOf: (link) => this.#links.get(link),
      onChoke: (link, on) => this.#tell({ type: 'choked', link, on }),
      dial: (id, address) => this.#dials.start(this.#core.drawLink(), id, address),
      isWanting: () => this.#isWanting,
      onOpen: (infoHash, open) => {
        if (open) torrents.set(infoHash, this);
        else if (torrents.get(infoHash) === this) torrents.delete(infoHash);
      },
    });
  }

  #tell(event: SwarmEvent): void {
    if (this.#left) return;
    this.#events.push(event);
    if (this.#handling) return;
    this.#handling = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        this.#core.handle(next, performance.now(), (effect) => this.#run(effect));
      }
    } finally {
      this.#handling = false;
    }
  }

  #run(effect: SwarmEffect): void {
    if (this.#left) return;
    switch (effect.type) {
      case 'dial':
        this.#dials.start(effect.link, effect.peerId, effect.address);
        return;
      case 'close':
        this.#links.get(effect.link)?.close(effect.reason, effect.piece);
        return;
      case 'sendBitfield':
        this.#links.get(effect.link)?.wire.sendBitfield(this.#core.have);
        return;
      case 'sendHave':
        this.#links.get(effect.link)?.wire.sendHave(effect.index);
        return;
      case 'sendSuggest':
        this.#links.get(effect.link)?.wire.sendSuggest(effect.index);
        return;
      case 'fetch':
        this.#fetch(effect.link, effect.index);
        return;
      case 'cancel':
        this.#cancel(effect.link, effect.index);
        return;
      case 'readPiece':
      case 'refuse':
        this.#links.get(effect.link)?.onAnswer(effect.index, effect.type === 'readPiece');
        return;
      case 'writePiece':
        void this.#arrivals.write(effect.link, effect.index);
        return;
      case 'dropPiece':
        this.#arrivals.drop(effect.link, effect.index, effect.bad);
        return;
      case 'setTimer':
        clearTimeout(this.#timer);
        this.#timer = setTimeout(
          () => this.#tell({ type: 'timer', key: effect.key }),
          Math.max(0, effect.atMs - performance.now()),
        );
        return;
      case 'wantPeers':
        this.#onWant.call();
        return;
      case 'finish':
        this.#strangers.wishChanged();
        this.#onComplete.call();
        return;
      case 'log':
        this.#parts.log[effect.level]({ ...effect.detail, digest: this.digest }, effect.message);
    }
  }

  /** What listens to the wire of a member. */
  #owner(link: LinkId, socket: Socket): LinkOwner {
    return linkOwner(this.#linkDeps, link, socket, { budget: this.#parts.uploads });
  }

  #fetch(link: LinkId, index: number): void {
    const slab = this.#parts.slabs.acquire();
    if (slab === undefined) {
      this.#parts.slabs.whenFree(this.#wake);
      this.#tell({ type: 'fetchFailed', link, index, busy: true });
      return;
    }
    const wire = this.#links.get(link);
    if (wire !== undefined) {
      wire.fetcher.fetch(index, slab);
      return;
    }
    if (this.#http.fetch(link, index, slab)) return;
    this.#parts.slabs.release(slab);
    this.#tell({ type: 'fetchFailed', link, index, busy: false });
  }

  #cancel(link: LinkId, index: number): void {
    const slab = this.#links.get(link)?.fetcher.cancel(index);
    if (slab !== undefined) this.#parts.slabs.release(slab);
    else this.#http.cancel(link, index);
  }
}
