import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import type { Digest } from '../digest.ts';
import type { Metainfo } from '../metainfo/metainfo.ts';
import { pieceHash, pieceLength } from '../metainfo/tree.ts';
import type { LinkId, SwarmEffect, SwarmEvent } from './core/events.ts';
import { CORE_LIMITS, type CoreLimits } from './core/limits.ts';
import { SwarmCore } from './core/swarm-core.ts';
import { Listeners } from './listeners.ts';
import { dial } from './net.ts';
import { downReason, PeerLink } from './peer-link.ts';
import type { SlabPool } from './slab-pool.ts';
import type {
  HttpSource,
  JoinInit,
  PeerAddress,
  PieceFrom,
  Reader,
  Swarm,
  SwarmLog,
  SwarmStats,
} from './swarm.ts';
import type { UploadBudget } from './upload.ts';
import { HardenedWire } from './wire.ts';
import type { GoneReason } from './wire-extensions.ts';
import type { ProvenPeer, WireOwner } from './wire-owner.ts';

/** What all swarms of an engine share. */
export interface EngineParts {
  readonly clusterKey: Uint8Array;
  readonly peerId: Uint8Array;
  readonly origin: boolean;
  readonly zone: string;
  readonly log: SwarmLog;
  readonly slabs: SlabPool;
  readonly uploads: UploadBudget;
  readonly limits: Partial<CoreLimits>;
}

interface HttpLink {
  readonly source: HttpSource;
  readonly aborts: Map<number, { abort: AbortController; slab: Uint8Array }>;
}

interface Arrived {
  readonly slab: Uint8Array;
  readonly bytes: Uint8Array;
  readonly from: PieceFrom;
  readonly peerId: string;
}

/** Sockets, disk, timers and hashes of one swarm around its {@link SwarmCore}. */
export class SwarmShell implements Swarm {
  readonly digest: Digest;
  readonly metainfo: Metainfo;
  readonly id: Uint8Array;
  leech: boolean;
  readonly #parts: EngineParts;
  readonly #join: JoinInit;
  readonly #core: SwarmCore;
  readonly #onLeave: () => void;
  readonly #links = new Map<LinkId, PeerLink>();
  readonly #http = new Map<LinkId, HttpLink>();
  readonly #dials = new Map<LinkId, { giveUp: () => void; wire?: HardenedWire }>();
  readonly #arrived = new Map<string, Arrived>();
  readonly #events: SwarmEvent[] = [];
  #handling = false;
  #left = false;
  #timer: NodeJS.Timeout | undefined;
  #nextReader = 0;
  readonly #stats = { bytesFromPeers: 0, bytesFromOrigin: 0, uploadedBytes: 0, wastedBytes: 0 };
  readonly #onPiece: Listeners<[number, PieceFrom]>;
  readonly #onComplete: Listeners<[]>;
  readonly #onBad: Listeners<[{ index: number; peerId: string }]>;
  readonly #onWant: Listeners<[]>;
  readonly #wake = (): void => this.#tell({ type: 'buffers' });

  constructor(parts: EngineParts, id: Uint8Array, join: JoinInit, seed: number, onLeave: () => void) {
    this.#parts = parts;
    this.#join = join;
    this.#onLeave = onLeave;
    this.id = id;
    this.digest = join.digest;
    this.metainfo = join.metainfo;
    this.leech = join.leech;
    const onError = (error: unknown): void =>
      parts.log.warn({ error, digest: join.digest }, 'swarm listener failed');
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
      origin: parts.origin,
      seed,
      nowMs: performance.now(),
      limits: parts.limits,
    });
    this.#tell({ type: 'hashes' });
  }

  addPeers(peers: readonly PeerAddress[]): void {
    this.#tell({ type: 'peers', peers: peers.map((peer) => ({ ...peer, zone: peer.zone ?? '' })) });
  }

  setHttpSources(sources: readonly HttpSource[]): void {
    const wanted = new Map(sources.map((source) => [source.id, source]));
    for (const [link, http] of [...this.#http]) {
      if (wanted.delete(http.source.id)) continue;
      this.#dropHttp(link);
      this.#tell({ type: 'linkDown', link, reason: 'closed' });
    }
    for (const source of wanted.values()) {
      if (this.#left) return;
      const link = this.#core.drawLink();
      this.#http.set(link, { source, aborts: new Map() });
      this.#tell({ type: 'httpUp', link, has: (index) => source.has(index) });
    }
  }

  metainfoChanged(): void {
    this.#tell({ type: 'hashes' });
  }

  pieceLanded(index: number): void {
    this.#tell({ type: 'landed', index });
  }

  openReader(pieceIndex: number): Reader {
    const reader = this.#nextReader++;
    this.#tell({ type: 'reader', reader, index: pieceIndex });
    let open = true;
    return {
      move: (index) => {
        if (open) this.#tell({ type: 'reader', reader, index });
      },
      close: () => {
        open = false;
        this.#tell({ type: 'readerClosed', reader });
      },
    };
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
      downBytes: link.wire.downloadedBytes,
      upBytes: link.wire.uploadedBytes,
    }));
    return { ...this.#stats, links };
  }

  setLeech(leech: boolean): void {
    this.leech = leech;
    this.#tell({ type: 'leech', on: leech });
  }

  leave(): void {
    this.stop('dropped');
  }

  /** Ends all wires with this reason. Idempotent. */
  stop(reason: GoneReason): void {
    if (this.#left) return;
    this.#left = true;
    clearTimeout(this.#timer);
    this.#parts.slabs.forget(this.#wake);
    for (const one of [...this.#dials.values()]) {
      one.giveUp();
      one.wire?.goodbye(reason);
    }
    this.#dials.clear();
    for (const link of [...this.#links.values()]) link.wire.goodbye(reason);
    for (const link of [...this.#http.keys()]) this.#dropHttp(link);
    for (const arrived of this.#arrived.values()) this.#parts.slabs.release(arrived.slab);
    this.#arrived.clear();
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
        this.#dial(effect.link, effect.peerId, effect.address);
        return;
      case 'close':
        this.#links.get(effect.link)?.close(effect.reason);
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
        void this.#write(effect.link, effect.index);
        return;
      case 'dropPiece':
        this.#drop(effect.link, effect.index, effect.bad);
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
        this.#onComplete.call();
        return;
      case 'log':
        this.#parts.log[effect.level]({ ...effect.detail, digest: this.digest }, effect.message);
    }
  }

  #dial(link: LinkId, peerId: string, address: string): void {
    const fail = (): void => this.#tell({ type: 'linkDown', link, reason: 'failed' });
    const slot: { giveUp: () => void; wire?: HardenedWire } = { giveUp: () => {} };
    this.#dials.set(link, slot);
    try {
      slot.giveUp = dial(address, this.#parts.limits.dialMs ?? CORE_LIMITS.dialMs, (socket) => {
        if (socket === undefined) {
          this.#dials.delete(link);
          return fail();
        }
        const owner = this.#owner(link, socket);
        const { clusterKey, peerId: ownId, origin, zone } = this.#parts;
        const wire: HardenedWire = new HardenedWire({
          socket,
          role: 'dialer',
          clusterKey,
          peerId: ownId,
          origin,
          zone,
          swarm: { id: this.id, sizeBytes: this.metainfo.sizeBytes, peerId },
          owner: {
            ...owner.events,
            onSwarm: () => undefined,
            onReady: (peer) => owner.onReady(wire, peer, true),
          },
        });
        slot.wire = wire;
      });
    } catch (error) {
      this.#parts.log.warn({ error, peerId, address }, 'peer address is not valid');
      this.#dials.delete(link);
      fail();
    }
  }

  /** What listens to the wire of `link`, before and after it is ready. */
  #owner(link: LinkId, socket: Socket): LinkOwner {
    let peerLink: PeerLink | undefined;
    const onReady = (wire: HardenedWire, peer: ProvenPeer, dialled: boolean): void => {
      this.#dials.delete(link);
      if (this.#left) {
        wire.goodbye('dropped');
        return;
      }
      peerLink = new PeerLink({
        id: link,
        wire,
        peer,
        socket,
        sizeBytes: this.metainfo.sizeBytes,
        pieces: this.#join.pieces,
        budget: this.#parts.uploads,
        fetches: {
          onProgress: (index, bytes) => this.#tell({ type: 'progress', link, index, bytes }),
          onPiece: (index, slab, lengthBytes) =>
            this.#onBytes(link, index, slab, lengthBytes, peer.origin ? 'origin' : 'peer', peer.peerId),
          onFailed: (index, slab) => {
            this.#parts.slabs.release(slab);
            this.#tell({ type: 'fetchFailed', link, index, busy: false });
          },
        },
        onSent: (bytes) => {
          this.#stats.uploadedBytes += bytes;
        },
        tell: (event) => this.#tell(event),
      });
      this.#links.set(link, peerLink);
      this.#tell({
        type: 'wireUp',
        link,
        peerId: peer.peerId,
        origin: peer.origin,
        zone: peer.zone,
        dialled,
      });
    };
    const events: LinkOwner['events'] = {
      onBitfield: (pieces) => this.#tell({ type: 'bitfield', link, indexes: pieces }),
      onHaves: (indexes) => this.#tell({ type: 'haves', link, indexes }),
      onSuggest: (index) => this.#tell({ type: 'suggested', link, index }),
      onRequest: (index, offset, length) => peerLink?.onRequest(index, offset, length),
      onCancel: (index, offset) => peerLink?.onCancel(index, offset),
      onBlock: (index, _offset, count, done) => peerLink?.fetcher.onBlock(index, count, done),
      onReject: (index) => peerLink?.fetcher.onReject(index),
      onDrain: () => peerLink?.onDrain(),
      onClosed: (gone, error) => {
        this.#dials.delete(link);
        this.#links.delete(link);
        peerLink?.stop();
        for (const slab of peerLink?.fetcher.stop() ?? []) this.#parts.slabs.release(slab);
        if (error?.code === 'WIRE_INVALID') {
          this.#parts.log.warn({ error, address: socket.remoteAddress, digest: this.digest }, 'wire closed');
        }
        this.#tell({ type: 'linkDown', link, reason: downReason(gone, error) });
      },
    };
    return { events, onReady };
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
    const http = this.#http.get(link);
    if (http !== undefined) {
      void this.#fetchHttp(link, http, index, slab);
      return;
    }
    this.#parts.slabs.release(slab);
    this.#tell({ type: 'fetchFailed', link, index, busy: false });
  }

  async #fetchHttp(link: LinkId, http: HttpLink, index: number, slab: Uint8Array): Promise<void> {
    const abort = new AbortController();
    const entry = { abort, slab };
    http.aborts.set(index, entry);
    let bytes: Uint8Array | undefined;
    try {
      bytes = await http.source.fetchPiece(index, abort.signal);
    } catch (error) {
      this.#parts.log.debug({ error, source: http.source.id, index }, 'piece over HTTP failed');
    }
    if (http.aborts.get(index) !== entry) return;
    http.aborts.delete(index);
    const lengthBytes = pieceLength(this.metainfo.sizeBytes, index);
    if (bytes === undefined || bytes.length !== lengthBytes) {
      this.#parts.slabs.release(slab);
      return this.#tell({ type: 'fetchFailed', link, index, busy: false });
    }
    slab.set(bytes);
    this.#tell({ type: 'progress', link, index, bytes: lengthBytes });
    this.#onBytes(link, index, slab, lengthBytes, 'origin', http.source.id);
  }

  #cancel(link: LinkId, index: number): void {
    const slab = this.#links.get(link)?.fetcher.cancel(index);
    if (slab !== undefined) this.#parts.slabs.release(slab);
    const http = this.#http.get(link);
    const entry = http?.aborts.get(index);
    if (entry === undefined) return;
    http?.aborts.delete(index);
    entry.abort.abort();
    this.#parts.slabs.release(entry.slab);
  }

  #dropHttp(link: LinkId): void {
    for (const index of [...(this.#http.get(link)?.aborts.keys() ?? [])]) this.#cancel(link, index);
    this.#http.delete(link);
  }

  #onBytes(
    link: LinkId,
    index: number,
    slab: Uint8Array,
    lengthBytes: number,
    from: PieceFrom,
    peerId: string,
  ): void {
    if (this.#left) {
      this.#parts.slabs.release(slab);
      return;
    }
    const bytes = slab.subarray(0, lengthBytes);
    this.#arrived.set(`${link}:${index}`, { slab, bytes, from, peerId });
    this.#tell({ type: 'fetched', link, index, good: this.metainfo.matches(index, pieceHash(bytes)) });
  }

  async #write(link: LinkId, index: number): Promise<void> {
    const arrived = this.#take(link, index);
    if (arrived === undefined) return;
    let ok = true;
    try {
      await this.#join.pieces.writePiece(index, arrived.bytes);
    } catch (error) {
      ok = false;
      this.#parts.log.warn({ error, index, digest: this.digest }, 'piece could not be written');
    }
    this.#parts.slabs.release(arrived.slab);
    if (ok && !this.#left) {
      this.#stats[arrived.from === 'peer' ? 'bytesFromPeers' : 'bytesFromOrigin'] += arrived.bytes.length;
      this.#onPiece.call(index, arrived.from);
    }
    this.#tell({ type: 'written', index, ok });
  }

  #drop(link: LinkId, index: number, bad: boolean): void {
    const arrived = this.#take(link, index);
    if (arrived === undefined) return;
    this.#stats.wastedBytes += arrived.bytes.length;
    this.#parts.slabs.release(arrived.slab);
    if (bad) this.#onBad.call({ index, peerId: arrived.peerId });
  }

  #take(link: LinkId, index: number): Arrived | undefined {
    const key = `${link}:${index}`;
    const arrived = this.#arrived.get(key);
    this.#arrived.delete(key);
    return arrived;
  }
}

/** Listens to one wire for a swarm. */
export interface LinkOwner {
  readonly events: Omit<WireOwner, 'onSwarm' | 'onReady'>;
  onReady(wire: HardenedWire, peer: ProvenPeer, dialled: boolean): void;
}
