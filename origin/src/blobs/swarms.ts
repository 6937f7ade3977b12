import { Bitfield } from '@sepia/base/bitfield';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { type PeerEntry, SMALL_BLOB_BYTES } from '@sepia/cluster/api/join';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { BlobStore } from '@sepia/store/blob-store';
import type { SwarmEngine } from '@sepia/swarm/shell/engine';
import type { Swarm } from '@sepia/swarm/swarm';
import { TIGHT_IDLE_MS } from '../deadlines/own.ts';
import type { FetchEvents, FetchView } from '../fetch/fetch-parts.ts';

/** Swarms that one origin is in at once; the one that nobody asked about for longest is left first. */
const MAX_SWARMS = 1_024;

interface Entry {
  readonly link: Swarm;
  readonly fetch: FetchView | undefined;
  handle: Promise<BlobHandle | undefined> | undefined;
  askedAtMs: number;
}

interface SwarmsDeps {
  readonly engine: Pick<SwarmEngine, 'join'>;
  readonly store: BlobStore;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** The swarms that this origin seeds: joined when somebody asks for the metainfo, left when nobody did for a while. */
export class Swarms implements Omit<FetchEvents, 'cameWrong'> {
  readonly #deps: SwarmsDeps;
  readonly #idleMs: number;
  readonly #entries = new Map<Digest, Entry>();
  #onComplaint: (digest: Digest, piece: number) => void = () => undefined;
  #onBadPiece: () => void = () => undefined;
  readonly #sweep: NodeJS.Timeout;

  constructor(deps: SwarmsDeps, options: { readonly idleMs: number }) {
    this.#deps = deps;
    this.#idleMs = options.idleMs;
    this.#sweep = setInterval(() => this.#leaveIdle(), Math.max(1_000, Math.min(30_000, options.idleMs / 4)));
    this.#sweep.unref();
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Seeds a whole blob. Blobs that are handed out in one GET have no swarm. */
  seed(metainfo: Metainfo): void {
    const { digest, sizeBytes } = metainfo;
    if (sizeBytes <= SMALL_BLOB_BYTES || this.#touch(digest)) return;
    this.#hold(this.#join(metainfo, fullOf(metainfo), undefined, false), digest);
  }

  /** Opens the swarm of a whole blob, of any size, to standard clients for so long, and dials those at `addresses`. */
  admitStrangers(
    metainfo: Metainfo,
    torrent: { readonly infoHash: Uint8Array; readonly ttlMs: number; readonly addresses: readonly string[] },
  ): void {
    const { digest } = metainfo;
    if (!this.#touch(digest)) this.#hold(this.#join(metainfo, fullOf(metainfo), undefined, false), digest);
    const link = this.#entries.get(digest)?.link;
    link?.admitStrangers(torrent.infoHash, torrent.ttlMs);
    link?.addStrangers(torrent.addresses);
  }

  addPeers(digest: Digest, peers: readonly PeerEntry[]): void {
    this.#entries.get(digest)?.link.addPeers(peers);
  }

  started(fetch: FetchView, leech: boolean): void {
    const { metainfo, have } = fetch;
    if (metainfo === undefined || have === undefined || metainfo.sizeBytes <= SMALL_BLOB_BYTES) return;
    this.#drop(fetch.name.digest);
    this.#join(metainfo, have, fetch, leech);
  }

  landed(fetch: FetchView, piece: number): void {
    const entry = this.#entries.get(fetch.name.digest);
    if (entry?.fetch !== fetch) return;
    entry.link.metainfoChanged();
    entry.link.pieceLanded(piece);
  }

  restarted(fetch: FetchView): void {
    if (this.#entries.get(fetch.name.digest)?.fetch === fetch) this.started(fetch, false);
  }

  peerPieces(fetch: FetchView): Bitfield | undefined {
    const entry = this.#entries.get(fetch.name.digest);
    return entry?.fetch === fetch ? entry.link.peerPieces() : undefined;
  }

  ended(fetch: FetchView): void {
    const { digest } = fetch.name;
    const entry = this.#entries.get(digest);
    if (entry?.fetch !== fetch) return;
    if (fetch.state !== 'final') {
      this.#drop(digest);
      return;
    }
    entry.handle = this.#open(digest);
    entry.link.setLeech(false);
    entry.link.metainfoChanged();
  }

  /** There is no room for other blobs: swarms that nobody asks about are left sooner, so that theirs may go. */
  makeRoom(): void {
    this.#leaveIdle(Math.min(this.#idleMs, TIGHT_IDLE_MS));
  }

  /** The blob is not here any more. */
  forget(digest: Digest): void {
    this.#drop(digest);
  }

  /** Running swarms with their counters, for people who look. */
  *stats(): Generator<{ digest: Digest; pieces: number; links: number; uploadedBytes: number }> {
    for (const [digest, { link }] of this.#entries) {
      const { links, uploadedBytes } = link.stats();
      yield { digest, pieces: link.metainfo.pieceCount, links: links.length, uploadedBytes };
    }
  }

  /** Calls `listener` when a member got a piece from here that was wrong. */
  onComplaint(listener: (digest: Digest, piece: number) => void): void {
    this.#onComplaint = listener;
  }

  /** Calls `listener` when a member sent a piece that was wrong. */
  onBadPiece(listener: () => void): void {
    this.#onBadPiece = listener;
  }

  async stop(): Promise<void> {
    clearInterval(this.#sweep);
    for (const digest of [...this.#entries.keys()]) this.#drop(digest);
  }

  #join(metainfo: Metainfo, have: Bitfield, fetch: FetchView | undefined, leech: boolean): Entry | undefined {
    const { digest } = metainfo;
    while (this.#entries.size >= MAX_SWARMS) {
      const oldest = this.#oldest();
      if (oldest === undefined) return undefined;
      this.#drop(oldest);
    }
    const link = this.#deps.engine.join({
      digest,
      metainfo,
      leech,
      pieces: {
        have,
        readPiece: async (piece, offset, _length, into) => await this.#read(digest, piece, offset, into),
        writePiece: async (piece, bytes, leaves) => await fetch?.pieceFromSwarm(piece, bytes, leaves),
        complained: (piece) => this.#onComplaint(digest, piece),
      },
    });
    link.onBadPiece(() => this.#onBadPiece());
    const entry: Entry = { link, fetch, handle: undefined, askedAtMs: this.#deps.nowMs() };
    this.#entries.set(digest, entry);
    return entry;
  }

  /** That of a whole blob which nobody asked about for longest. */
  #oldest(): Digest | undefined {
    for (const [digest, { fetch }] of this.#entries)
      if (fetch === undefined || fetch.state === 'final') return digest;
    return undefined;
  }

  /** Holds the whole blob of a swarm open; where it went just now (evicted, collected) the swarm is left again. */
  #hold(entry: Entry | undefined, digest: Digest): void {
    if (entry === undefined) return;
    entry.handle = this.#open(digest).then((handle) => {
      if (handle === undefined && this.#entries.get(digest) === entry) this.#drop(digest);
      return handle;
    });
  }

  async #read(digest: Digest, piece: number, offset: number, into: Uint8Array): Promise<Uint8Array> {
    const entry = this.#entries.get(digest);
    const handle = await entry?.handle;
    if (handle !== undefined) return await handle.read(piece * PIECE_BYTES + offset, into);
    if (entry?.fetch === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { digest } });
    const { partial } = entry.fetch;
    if (partial === undefined) throw new TypeError(`swarm of ${digest} has no bytes`);
    return await partial.readPiece(piece, offset, into.length, into);
  }

  async #open(digest: Digest): Promise<BlobHandle | undefined> {
    try {
      return await this.#deps.store.open(digest);
    } catch (error) {
      throwIfBug(error);
      this.#deps.log.warn({ digest, err: error }, 'blob of a swarm does not open');
      return undefined;
    }
  }

  #touch(digest: Digest): boolean {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return false;
    entry.askedAtMs = this.#deps.nowMs();
    this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    return true;
  }

  #leaveIdle(idleMs: number = this.#idleMs): void {
    const nowMs = this.#deps.nowMs();
    for (const [digest, entry] of this.#entries) {
      const busy =
        entry.fetch !== undefined && entry.fetch.state !== 'final' && entry.fetch.state !== 'failed';
      if (!busy && nowMs - entry.askedAtMs > idleMs) this.#drop(digest);
    }
  }

  #drop(digest: Digest): void {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return;
    this.#entries.delete(digest);
    void (async () => {
      entry.link.leave();
      await (await entry.handle)?.close();
    })().catch((error: unknown) =>
      logFailure(this.#deps.log, error, 'swarm was not left cleanly', { digest }),
    );
  }
}

function fullOf(metainfo: Metainfo): Bitfield {
  return Bitfield.full(metainfo.pieceCount);
}
