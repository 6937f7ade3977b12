import type { Bitfield } from '@sepia/base/bitfield';
import { type Digest, digestOf } from '@sepia/base/digest';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { FETCH_TICK_MS } from '@sepia/origin/deadlines/upstreams';
import { FetchPace } from '@sepia/origin/fetch/core/fetch-pace';
import { type FetchJob, FetchPlan, MAX_EXTRA_CONNECTIONS } from '@sepia/origin/fetch/core/fetch-plan';
import type { VirtualClock } from '../wire/clock.ts';
import type { Machine } from '../wire/machine.ts';
import { PIECE_BYTES } from '../wire/uplink.ts';
import type { Upstream } from './upstream.ts';

const PACE = { progressMs: 60_000, firstByteMs: 60_000, lingerMs: 60_000 };

interface FetchInit {
  readonly clock: VirtualClock;
  readonly upstream: Upstream | undefined;
  readonly machine: Machine;
  readonly digest: Digest;
  readonly pieces: number;
  /** What a leader before it made known, and that members have pieces of it. */
  readonly adopt?: Metainfo | undefined;
  /** Pieces that are on its disk already. */
  readonly kept: readonly number[];
  readonly isUp: () => boolean;
  /** What members hold that it is on wires with. */
  readonly peerPieces: () => Bitfield | undefined;
  /** A piece came from the registry and is on disk. */
  readonly onPiece: (index: number) => void;
}

/** An origin that fetches one blob: the plan and the pace that ship, around the registry's connections. */
export class OriginFetch {
  readonly metainfo: Metainfo;
  readonly plan: FetchPlan;
  /** Pieces that came from the registry though they were here. */
  twice = 0;
  readonly #init: FetchInit;
  readonly #pace: FetchPace;
  readonly #open = new Map<number, () => void>();
  #isSized: boolean;
  #hasFailed = false;
  #nextId = 1;
  #readers = 0;
  #waiters = new Set<() => void>();

  constructor(init: FetchInit) {
    const { clock, digest, pieces, adopt, kept } = init;
    this.#init = init;
    this.#pace = new FetchPace(PACE, clock.nowMs);
    this.plan = new FetchPlan(pieces * PIECE_BYTES, { wantAll: true });
    this.metainfo = Metainfo.open(digest, pieces * PIECE_BYTES, firstAttempt(digest));
    this.#isSized = adopt !== undefined;
    for (const index of kept) this.#take(index);
    if (this.plan.complete) this.#isSized = true;
    if (adopt !== undefined) this.learn(adopt);
  }

  get state(): 'open' | 'final' | 'none' {
    if (this.#hasFailed) return 'none';
    return this.metainfo.state;
  }

  start(): void {
    this.#tick();
  }

  /** Another leader's hashes; members have pieces of them, so that the swarm is waited for first. */
  learn(known: Metainfo): void {
    if (this.metainfo.state === 'final' || this.metainfo.merge(known) !== 'merged') return;
    const pieces = this.plan.have.clone();
    for (let index = 0; index < pieces.size; index++) if (known.knows(index)) pieces.add(index);
    this.plan.avoid(pieces);
    this.#changed();
  }

  /** A piece that the swarm brought was written. */
  landed(index: number): void {
    this.#pace.landed(this.#init.clock.nowMs, true);
    if (this.#take(index)) this.#changed();
  }

  /** Somebody reads this piece over HTTP; returns how to leave. */
  read(index: number): () => void {
    const reader = ++this.#readers;
    this.plan.moveReader(reader, index, index);
    this.#pump();
    return () => this.plan.closeReader(reader);
  }

  /** Runs `told` once there is a size, then once there is more than `etag`, or after `waitMs`. */
  poll(etag: string | undefined, waitMs: number, told: () => void): void {
    const isNews = (): boolean => this.#isSized && this.metainfo.etag !== etag;
    if (isNews()) {
      told();
      return;
    }
    let isWaiting = true;
    const look = (): void => {
      if (!isWaiting) return;
      if (!isNews()) {
        this.#waiters.add(look);
        return;
      }
      isWaiting = false;
      told();
    };
    this.#waiters.add(look);
    if (etag === undefined) return;
    this.#init.clock.at(this.#init.clock.nowMs + waitMs, () => {
      if (!isWaiting) return;
      isWaiting = false;
      told();
    });
  }

  #tick(): void {
    const { clock, isUp } = this.#init;
    if (!isUp() || this.state !== 'open') return;
    const { plan } = this;
    const held = plan.avoiding ? this.#init.peerPieces() : undefined;
    if (held !== undefined) plan.peersHold(held);
    const facts = { hungry: plan.hungry, readers: 0, avoiding: plan.avoiding, thinking: plan.thinking };
    const verdict = this.#pace.tick(facts, clock.nowMs);
    if (verdict === 'stop-avoiding') plan.stopAvoiding();
    if (verdict === 'late') this.#hasFailed = true;
    this.#pump();
    clock.at(clock.nowMs + FETCH_TICK_MS, () => this.#tick());
  }

  #pump(): void {
    const { clock, isUp } = this.#init;
    const next = (): FetchJob | undefined => (this.#isSized ? this.plan.next() : this.plan.first());
    while (isUp() && this.state === 'open' && this.#pace.mayTry(clock.nowMs)) {
      const job = next();
      if (job === undefined) return;
      this.#connect(job);
    }
  }

  #connect(job: FetchJob): void {
    const { clock, upstream, machine, pieces, isUp } = this.#init;
    const { plan } = this;
    const id = this.#nextId++;
    plan.opened(id, job);
    if (plan.connections > MAX_EXTRA_CONNECTIONS + 1) throw new Error(`${plan.connections} connections`);
    let came = 0;
    const gone = (): void => {
      this.#open.get(id)?.();
      this.#open.delete(id);
      plan.closed(id);
    };
    const close = upstream!.get(
      machine,
      { start: job.start, end: job.end, pieces },
      {
        answered: (first) => {
          plan.answered(id);
          if (job.start > 0 || job.end < pieces) plan.setRanges(first === job.start);
          this.#sized();
          if (first === job.start) return;
          // It sends all, from the first byte on: of use where it is the only one.
          if (plan.connections > 1) {
            gone();
            return;
          }
          plan.opened(id, { start: 0, end: pieces });
          plan.answered(id);
        },
        piece: (index) => {
          if (!isUp()) return false;
          came += 1;
          if (this.#take(index)) {
            this.#pace.landed(clock.nowMs, false);
            this.#init.onPiece(index);
            this.#changed();
          } else this.twice += 1;
          return plan.delivered(id, index);
        },
        ended: (wasCut) => {
          gone();
          if (wasCut) this.#failed(came > 0);
          this.#pump();
        },
      },
    );
    this.#open.set(id, close);
  }

  #failed(came: boolean): void {
    const { clock, pieces } = this.#init;
    const { plan } = this;
    const keptBytes = plan.have.count * PIECE_BYTES;
    const facts = {
      avoiding: plan.avoiding,
      came,
      keptBytes,
      missingBytes: pieces * PIECE_BYTES - keptBytes,
    };
    const after = this.#pace.failed({ code: 'BACKEND_DOWN' }, facts, clock.nowMs);
    if (after.type === 'retry') clock.at(clock.nowMs + after.inMs, () => this.#pump());
    else this.#hasFailed = true;
  }

  #sized(): void {
    if (this.#isSized) return;
    this.#isSized = true;
    this.#changed();
    this.#pump();
  }

  #take(index: number): boolean {
    if (!this.plan.landed(index)) return false;
    this.metainfo.addHash(index, hashOf(index));
    if (this.plan.complete) this.metainfo.finalize();
    return true;
  }

  #changed(): void {
    const waiting = this.#waiters;
    this.#waiters = new Set();
    for (const look of waiting) look();
  }
}

/** The hash that a piece has in all runs. */
export function hashOf(index: number): Uint8Array {
  return Buffer.from(digestOf(Buffer.from(`piece ${index}`)).slice(7), 'hex');
}
