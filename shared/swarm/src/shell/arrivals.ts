import { logFailure } from '@sepia/base/failure';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { foldLeaves, pieceLeaves } from '@sepia/metainfo/tree';
import type { LinkId, SwarmEvent } from '../core/events.ts';
import type { PieceFrom, PieceStore, SwarmLog } from '../swarm.ts';
import type { FreshPieces } from './fresh-pieces.ts';
import type { SlabPool } from './slab-pool.ts';

const COUNTERS = {
  peer: 'bytesFromPeers',
  origin: 'bytesFromOrigin',
  stranger: 'bytesFromStrangers',
} as const satisfies Record<PieceFrom, string>;

interface Arrived {
  readonly slab: Uint8Array;
  readonly bytes: Uint8Array;
  readonly leaves: Uint8Array;
  readonly from: PieceFrom;
  readonly peerId: string;
}

interface ArrivalsDeps {
  readonly metainfo: Metainfo;
  readonly pieces: PieceStore;
  readonly slabs: SlabPool;
  readonly fresh: FreshPieces;
  readonly log: SwarmLog;
  readonly tell: (event: SwarmEvent) => void;
  readonly onKept: (index: number, from: PieceFrom) => void;
  readonly onBad: (bad: { index: number; peerId: string }) => void;
}

/** Whole pieces between the link and the disk: hashed on arrival, then written or dropped as the core says. */
export class Arrivals {
  readonly stats = { bytesFromPeers: 0, bytesFromOrigin: 0, bytesFromStrangers: 0, wastedBytes: 0 };
  readonly #deps: ArrivalsDeps;
  readonly #arrived = new Map<string, Arrived>();
  #stopped = false;

  constructor(deps: ArrivalsDeps) {
    this.#deps = deps;
  }

  /** All bytes of a piece are in its slab, which is ours from now on. */
  add(
    link: LinkId,
    index: number,
    of: { slab: Uint8Array; lengthBytes: number; from: PieceFrom; peerId: string },
  ): void {
    const { slabs, metainfo, tell } = this.#deps;
    if (this.#stopped) {
      slabs.release(of.slab);
      return;
    }
    const bytes = of.slab.subarray(0, of.lengthBytes);
    const leaves = pieceLeaves(bytes);
    this.#arrived.set(`${link}:${index}`, { slab: of.slab, bytes, leaves, from: of.from, peerId: of.peerId });
    tell({ type: 'fetched', link, index, good: metainfo.matches(index, foldLeaves(leaves)) });
  }

  async write(link: LinkId, index: number): Promise<void> {
    const { pieces, fresh, log, metainfo, tell, onKept } = this.#deps;
    const arrived = this.#take(link, index);
    if (arrived === undefined) return;
    const { slab, bytes, leaves, from } = arrived;
    const settle = fresh.offer(index, slab, bytes.length);
    let ok = true;
    try {
      await pieces.writePiece(index, bytes, leaves);
    } catch (error) {
      ok = false;
      logFailure(log, error, 'piece could not be written', { index, digest: metainfo.digest });
    }
    settle(ok && !this.#stopped);
    if (ok && !this.#stopped) {
      this.stats[COUNTERS[from]] += bytes.length;
      onKept(index, from);
    }
    tell({ type: 'written', index, ok });
  }

  drop(link: LinkId, index: number, bad: boolean): void {
    const arrived = this.#take(link, index);
    if (arrived === undefined) return;
    this.stats.wastedBytes += arrived.bytes.length;
    this.#deps.slabs.release(arrived.slab);
    if (bad) this.#deps.onBad({ index, peerId: arrived.peerId });
  }

  /** Gives back what is not being written; what is, when it is written. */
  stop(): void {
    this.#stopped = true;
    for (const arrived of this.#arrived.values()) this.#deps.slabs.release(arrived.slab);
    this.#arrived.clear();
  }

  #take(link: LinkId, index: number): Arrived | undefined {
    const key = `${link}:${index}`;
    const arrived = this.#arrived.get(key);
    this.#arrived.delete(key);
    return arrived;
  }
}
