import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { pieceLength } from '@sepia/metainfo/tree';
import type { Bans } from '../core/bans.ts';
import type { LinkId, SwarmEffect, SwarmEvent } from '../core/events.ts';
import { CORE_LIMITS, type CoreLimits } from '../core/limits.ts';
import { SwarmCore } from '../core/swarm-core.ts';
import type {
  HttpSource,
  JoinInit,
  LentBytes,
  PeerAddress,
  PieceFrom,
  Reader,
  Swarm,
  SwarmLog,
  SwarmStats,
} from '../swarm.ts';
import type { HardenedWire } from '../wire/wire.ts';
import type { GoneReason } from '../wire/wire-extensions.ts';
import type { LinkOwner, ProvenPeer } from '../wire/wire-owner.ts';
import { Arrivals } from './arrivals.ts';
import { Dials } from './dials.ts';
import { FreshPieces } from './fresh-pieces.ts';
import { HttpLinks } from './http-links.ts';
import { Listeners } from './listeners.ts';
import { downReason, PeerLink } from './peer-link.ts';
import type { SlabPool } from './slab-pool.ts';
import type { UploadBudget } from './upload.ts';
import type { WireWarnings } from './wire-warnings.ts';

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
  readonly bans: Bans;
  readonly warnings: WireWarnings;
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
  readonly #http: HttpLinks;
  readonly #dials: Dials;
  readonly #arrivals: Arrivals;
  readonly #fresh: FreshPieces;
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
    this.#join = join;
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
    this.#dials = new Dials({
      timeoutMs: parts.limits.dialMs ?? CORE_LIMITS.dialMs,
      self: { clusterKey: parts.clusterKey, peerId: parts.peerId, origin: parts.origin, zone: parts.zone },
      swarm: { id, sizeBytes: join.metainfo.sizeBytes },
      ownerOf: (link, socket) => this.#owner(link, socket),
      onFailed: (link, error) => {
        if (!isCoded(error, 'TIMEOUT')) logFailure(parts.log, error, 'peer address is not valid');
        this.#tell({ type: 'linkDown', link, reason: 'failed' });
      },
    });
    this.#http = new HttpLinks({
      slabs: parts.slabs,
      log: parts.log,
      lengthOf: (index) => pieceLength(join.metainfo.sizeBytes, index),
      tell: (event) => this.#tell(event),
      onPiece: (link, index, slab, sourceId) =>
        this.#arrivals.add(link, index, {
          slab,
          lengthBytes: pieceLength(join.metainfo.sizeBytes, index),
          from: 'origin',
          peerId: sourceId,
        }),
    });
    this.#tell({ type: 'hashes' });
  }

  addPeers(peers: readonly PeerAddress[]): void {
    this.#tell({ type: 'peers', peers: peers.map((peer) => ({ ...peer, zone: peer.zone ?? '' })) });
  }

  setHttpSources(sources: readonly HttpSource[]): void {
    if (!this.#left) this.#http.set(sources, () => this.#core.drawLink());
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
      downBytes: link.wire.downloadedBytes,
      upBytes: link.wire.uploadedBytes,
    }));
    return { ...this.#arrivals.stats, uploadedBytes: this.#uploadedBytes, links };
  }

  setLeech(leech: boolean): void {
    this.leech = leech;
    this.#tell({ type: 'leech', on: leech });
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
    this.#parts.slabs.forget(this.#wake);
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
        this.#onComplete.call();
        return;
      case 'log':
        this.#parts.log[effect.level]({ ...effect.detail, digest: this.digest }, effect.message);
    }
  }

  /** What listens to the wire of `link`, before and after it is ready. */
  #owner(link: LinkId, socket: Socket): LinkOwner {
    let peerLink: PeerLink | undefined;
    const onReady = (wire: HardenedWire, peer: ProvenPeer, dialled: boolean): void => {
      this.#dials.settle(link);
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
            this.#arrivals.add(link, index, {
              slab,
              lengthBytes,
              from: peer.origin ? 'origin' : 'peer',
              peerId: peer.peerId,
            }),
          onFailed: (index, slab) => {
            this.#parts.slabs.release(slab);
            this.#tell({ type: 'fetchFailed', link, index, busy: false });
          },
        },
        onSent: (bytes) => {
          this.#uploadedBytes += bytes;
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
        this.#dials.settle(link);
        this.#links.delete(link);
        peerLink?.stop();
        for (const slab of peerLink?.fetcher.stop() ?? []) this.#parts.slabs.release(slab);
        this.#parts.warnings.ended(error, 'wire closed', { address: socket.remoteAddress, digest: this.digest });
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
