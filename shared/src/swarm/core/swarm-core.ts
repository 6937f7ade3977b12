import type { Bitfield } from '../../bitfield.ts';
import { Asking } from './asking.ts';
import { Dialling } from './dialling.ts';
import type { DownReason, Emit, LinkId, SwarmEvent } from './events.ts';
import type { CoreLimits } from './limits.ts';
import { CORE_LIMITS } from './limits.ts';
import { Link } from './link.ts';
import { IndexSet, type PickView, pickPiece } from './picker.ts';
import { Chance } from './random.ts';
import { SuperSeed } from './super-seed.ts';

/** What a core is told once. `have` is copied. */
export interface CoreInit {
  readonly peerId: string;
  readonly zone: string;
  readonly pieceCount: number;
  readonly have: Bitfield;
  /** True once the hash of a piece is known: no other piece is asked for. */
  readonly knows: (index: number) => boolean;
  readonly leech: boolean;
  /** Super-seeds under an egress budget. */
  readonly origin: boolean;
  readonly seed: number;
  readonly nowMs: number;
  readonly limits?: Partial<CoreLimits>;
}

type Of<T extends SwarmEvent['type']> = Extract<SwarmEvent, { type: T }>;

/**
 * All decisions of one member in one swarm: whom to dial, what to ask of whom, when to ask somebody else, what to give.
 * Pure: time and chance come in, effects go out through `emit`; the same events give the same effects.
 * A piece comes from one link as a whole, so a bad one is its sender's.
 */
export class SwarmCore {
  readonly links = new Map<LinkId, Link>();
  readonly have: Bitfield;
  readonly limits: CoreLimits;
  readonly #init: CoreInit;
  readonly #chance: Chance;
  readonly #dialling: Dialling;
  readonly #superSeed: SuperSeed | undefined;
  /** Missing, hash known, asked of nobody. */
  readonly #wanted: IndexSet;
  /** Piece → links that fetch it. */
  readonly #inFlight = new Map<number, LinkId[]>();
  readonly #writing = new Set<number>();
  /** Wires (not origins' / origins') that have each piece. */
  readonly #peerHolders: Uint16Array;
  readonly #originHolders: Uint16Array;
  readonly #readers = new Map<number, { index: number; sinceMs: number }>();
  readonly #asking: Asking;
  #known = 0;
  #nextLink = 0;
  #leech: boolean;
  #finished = false;
  #timerSet = false;
  #noBuffers = false;
  #lackSinceMs = 0;
  #wireByteMs: number;

  constructor(init: CoreInit) {
    this.#init = init;
    this.limits = { ...CORE_LIMITS, ...init.limits };
    this.have = init.have.clone();
    this.#chance = new Chance(init.seed);
    this.#dialling = new Dialling({
      limits: this.limits,
      chance: this.#chance,
      ownId: init.peerId,
      zone: init.zone,
    });
    this.#wanted = new IndexSet(init.pieceCount);
    this.#peerHolders = new Uint16Array(init.pieceCount);
    this.#originHolders = new Uint16Array(init.pieceCount);
    this.#leech = init.leech;
    this.#finished = this.have.complete;
    this.#wireByteMs = init.nowMs;
    this.#lackSinceMs = init.nowMs;
    if (init.origin) {
      this.#superSeed = new SuperSeed({
        limits: this.limits,
        chance: this.#chance,
        have: this.have,
        holders: this.#peerHolders,
      });
    }
    this.#asking = new Asking({
      limits: this.limits,
      zone: init.zone,
      origin: init.origin,
      links: this.links,
      inFlight: this.#inFlight,
      peerHolders: this.#peerHolders,
      readers: this.#readers,
      dialling: this.#dialling,
      wireByteMs: () => this.#wireByteMs,
    });
    this.#learnHashes();
  }

  get wireCount(): number {
    let count = 0;
    for (const link of this.links.values()) if (link.kind === 'wire') count += 1;
    return count;
  }

  /** Draws a link id; the shell uses it for what comes in and for HTTP sources. */
  drawLink(): LinkId {
    return this.#nextLink++;
  }

  /** Whether a peer that dials may come in. */
  welcome(peerId: string, nowMs: number): 'yes' | 'full' | 'banned' {
    if (this.#dialling.banned(peerId, nowMs)) return 'banned';
    return this.wireCount >= this.limits.wires ? 'full' : 'yes';
  }

  handle(event: SwarmEvent, nowMs: number, emit: Emit): void {
    switch (event.type) {
      case 'peers':
        this.#dialling.learn(event.peers);
        break;
      case 'httpUp':
        this.#onHttpUp(event, nowMs);
        break;
      case 'wireUp':
        this.#onWireUp(event, nowMs, emit);
        break;
      case 'linkDown':
        this.#down(event.link, event.reason, nowMs);
        break;
      case 'bitfield':
      case 'haves':
        this.#onHaves(event.link, event.indexes, nowMs, emit);
        break;
      case 'suggested':
        this.#onSuggested(event);
        break;
      case 'asked':
        this.#onAsked(event, nowMs, emit);
        return;
      case 'progress':
        this.#onProgress(event, nowMs);
        return;
      case 'fetched':
        this.#onFetched(event, nowMs, emit);
        break;
      case 'fetchFailed':
        this.#onFetchFailed(event, nowMs);
        break;
      case 'written':
        this.#onWritten(event, nowMs, emit);
        break;
      case 'landed':
        this.#onLanded(event.index, nowMs, emit);
        break;
      case 'hashes':
        this.#learnHashes();
        break;
      case 'buffers':
        this.#noBuffers = false;
        break;
      case 'reader':
        this.#readers.set(event.reader, { index: event.index, sinceMs: nowMs });
        break;
      case 'readerClosed':
        this.#readers.delete(event.reader);
        break;
      case 'leech':
        this.#leech = event.on;
        break;
      case 'timer':
        this.#timerSet = false;
        this.#onTick(nowMs, emit);
    }
    this.#work(nowMs, emit);
  }

  #onHttpUp(event: Of<'httpUp'>, nowMs: number): void {
    this.links.set(
      event.link,
      this.#link(event.link, nowMs, {
        kind: 'http',
        peerId: '',
        origin: true,
        zone: '',
        dialled: true,
        httpHas: event.has,
      }),
    );
  }

  #onWireUp(event: Of<'wireUp'>, nowMs: number, emit: Emit): void {
    const other = this.#wireOf(event.peerId);
    if (other !== undefined && !this.#newWins(event, other, nowMs)) {
      emit({ type: 'close', link: event.link, reason: 'duplicate' });
      return;
    }
    this.#dialling.onUp(event.peerId, event.link);
    const { peerId, origin, zone, dialled } = event;
    this.links.set(
      event.link,
      this.#link(event.link, nowMs, { kind: 'wire', peerId, origin, zone, dialled }),
    );
    if (other !== undefined) {
      emit({ type: 'close', link: other.id, reason: 'duplicate' });
      this.#down(other.id, 'duplicate', nowMs);
    }
    if (this.have.count > 0) emit({ type: 'sendBitfield', link: event.link });
  }

  /** Two wires between the same two: the one that the smaller peer id dialled stays, unless the old one is long settled. */
  #newWins(event: Of<'wireUp'>, other: Link, nowMs: number): boolean {
    if (nowMs - other.upMs > this.limits.settledMs) return true;
    if (event.dialled === other.dialled) return true;
    return event.dialled === this.#init.peerId < event.peerId;
  }

  #down(id: LinkId, reason: DownReason, nowMs: number): void {
    this.#dialling.onDown(id, reason, nowMs);
    const link = this.links.get(id);
    if (link === undefined) return;
    this.links.delete(id);
    const holders = link.origin ? this.#originHolders : this.#peerHolders;
    for (const index of link.has) holders[index]! -= 1;
    for (const index of link.fetches.keys()) this.#release(id, index);
    this.#superSeed?.onDown(link);
  }

  #onHaves(id: LinkId, indexes: Iterable<number>, nowMs: number, emit: Emit): void {
    const link = this.links.get(id);
    if (link === undefined) return;
    const holders = link.origin ? this.#originHolders : this.#peerHolders;
    for (const index of indexes) {
      if (!link.has.add(index)) continue;
      holders[index]! += 1;
      this.#superSeed?.settle(link, index);
    }
    this.#closeDone(link, nowMs, emit);
  }

  #onSuggested(event: Of<'suggested'>): void {
    const link = this.links.get(event.link);
    if (link !== undefined && link.suggested.size < this.limits.sample) link.suggested.add(event.index);
  }

  #onAsked(event: Of<'asked'>, nowMs: number, emit: Emit): void {
    const link = this.links.get(event.link);
    const { index } = event;
    if (link === undefined || !this.have.has(index)) {
      emit({ type: 'refuse', link: event.link, index });
      return;
    }
    let leechers = 0;
    if (this.#superSeed !== undefined)
      for (const one of this.links.values()) if (one.kind === 'wire' && !one.has.complete) leechers += 1;
    const admitted =
      this.#superSeed === undefined || link.origin || this.#superSeed.admit(link, index, leechers, nowMs);
    emit({ type: admitted ? 'readPiece' : 'refuse', link: link.id, index });
  }

  #onProgress(event: Of<'progress'>, nowMs: number): void {
    const link = this.links.get(event.link);
    if (link === undefined) return;
    link.onBytes(event.index, event.bytes, nowMs);
    if (link.kind === 'wire') this.#wireByteMs = nowMs;
  }

  #onFetched(event: Of<'fetched'>, nowMs: number, emit: Emit): void {
    const { index } = event;
    const link = this.links.get(event.link);
    link?.fetches.delete(index);
    const useful = event.good && !this.have.has(index) && !this.#writing.has(index);
    if (useful) {
      this.#writing.add(index);
      emit({ type: 'writePiece', link: event.link, index });
      for (const id of [...(this.#inFlight.get(index) ?? [])]) {
        if (id === event.link) continue;
        this.links.get(id)?.fetches.delete(index);
        emit({ type: 'cancel', link: id, index });
      }
      this.#inFlight.delete(index);
      this.#wanted.delete(index);
    } else {
      this.#release(event.link, index);
      emit({ type: 'dropPiece', link: event.link, index, bad: !event.good });
    }
    if (link === undefined) return;
    if (event.good) link.failures = 0;
    else this.#punish(link, nowMs, emit);
  }

  /** A bad piece came from `link`. An HTTP source is left alone for a while, a wire is closed and its peer banned. */
  #punish(link: Link, nowMs: number, emit: Emit): void {
    if (link.kind === 'http') {
      this.#pause(link, nowMs);
      return;
    }
    this.#dialling.ban(link.peerId, link.origin, nowMs);
    emit({ type: 'log', level: 'warn', message: 'peer sent a bad piece', detail: { peerId: link.peerId } });
    emit({ type: 'close', link: link.id, reason: 'banned' });
    this.#down(link.id, 'banned', nowMs);
  }

  #pause(link: Link, nowMs: number): void {
    link.failures += 1;
    link.notBeforeMs =
      nowMs +
      Math.min(this.limits.backoffMaxMs, this.limits.backoffMinMs * 2 ** Math.min(10, link.failures - 1));
  }

  #onFetchFailed(event: Of<'fetchFailed'>, nowMs: number): void {
    const link = this.links.get(event.link);
    link?.fetches.delete(event.index);
    this.#release(event.link, event.index);
    if (event.busy) this.#noBuffers = true;
    else if (link?.kind === 'http') this.#pause(link, nowMs);
    else link?.refused.set(event.index, nowMs + this.limits.refusedMs);
  }

  #onWritten(event: Of<'written'>, nowMs: number, emit: Emit): void {
    this.#writing.delete(event.index);
    if (event.ok) this.#onLanded(event.index, nowMs, emit);
    else this.#want(event.index);
  }

  #onLanded(index: number, nowMs: number, emit: Emit): void {
    if (!this.have.add(index)) return;
    this.#wanted.delete(index);
    for (const id of this.#inFlight.get(index) ?? []) {
      this.links.get(id)?.fetches.delete(index);
      emit({ type: 'cancel', link: id, index });
    }
    this.#inFlight.delete(index);
    this.#superSeed?.onLanded(index);
    // A peer that has it need not know; an origin must, to see what is out already.
    for (const link of this.links.values()) {
      if (link.kind === 'wire' && (link.origin || !link.has.has(index)))
        emit({ type: 'sendHave', link: link.id, index });
    }
    if (!this.have.complete || this.#finished) return;
    this.#finished = true;
    emit({ type: 'finish' });
    for (const link of [...this.links.values()]) this.#closeDone(link, nowMs, emit);
  }

  /** Two that have everything have nothing to say: the wire makes room. */
  #closeDone(link: Link, nowMs: number, emit: Emit): void {
    if (link.kind !== 'wire' || !link.has.complete || !this.have.complete) return;
    emit({ type: 'close', link: link.id, reason: 'done' });
    this.#down(link.id, 'done', nowMs);
  }

  #learnHashes(): void {
    for (let index = this.#known; index < this.#init.pieceCount; index++) {
      if (!this.#init.knows(index)) continue;
      this.#want(index);
      if (index === this.#known) this.#known += 1;
    }
  }

  #want(index: number): void {
    if (
      !this.have.has(index) &&
      !this.#writing.has(index) &&
      !this.#inFlight.has(index) &&
      this.#init.knows(index)
    )
      this.#wanted.add(index);
  }

  #release(id: LinkId, index: number): void {
    const rest = this.#inFlight.get(index)?.filter((one) => one !== id) ?? [];
    if (rest.length > 0) this.#inFlight.set(index, rest);
    else {
      this.#inFlight.delete(index);
      this.#want(index);
    }
  }

  #onTick(nowMs: number, emit: Emit): void {
    for (const link of [...this.links.values()]) {
      if (link.fetches.size === 0) {
        // A stalled wire whose pieces came from elsewhere is tried again after a pause.
        if (link.stalled && nowMs - link.lastByteMs > 4 * this.limits.stallMs) link.stalled = false;
        continue;
      }
      const silentMs = nowMs - link.lastByteMs;
      link.stalled = silentMs >= this.limits.stallMs;
      if (silentMs < this.limits.hungMs * (link.kind === 'http' ? 3 : 1)) continue;
      if (link.kind === 'wire') {
        emit({ type: 'close', link: link.id, reason: 'failed' });
        this.#down(link.id, 'failed', nowMs);
        continue;
      }
      this.#pause(link, nowMs);
      for (const index of [...link.fetches.keys()]) {
        emit({ type: 'cancel', link: link.id, index });
        link.fetches.delete(index);
        this.#release(link.id, index);
      }
    }
    this.#checkSources(nowMs, emit);
  }

  /** Asks the owner for more peers while there is a piece to fetch and nobody to ask. */
  #checkSources(nowMs: number, emit: Emit): void {
    let alive = !this.#leech || this.#finished;
    for (const link of this.links.values()) if (link.kind === 'wire' && !link.stalled) alive = true;
    if (alive) this.#lackSinceMs = nowMs;
    else if (nowMs - this.#lackSinceMs >= this.limits.wantPeersMs) {
      this.#lackSinceMs = nowMs;
      emit({ type: 'wantPeers' });
    }
  }

  #work(nowMs: number, emit: Emit): void {
    if (this.#leech && !this.#finished) {
      this.#dialling.dial(this.wireCount, nowMs, () => this.drawLink(), emit);
      if (!this.#noBuffers) this.#schedule(nowMs, emit);
    }
    if (this.#superSeed !== undefined) {
      for (const link of this.links.values()) {
        if (link.kind === 'wire' && !link.origin && !link.has.complete) this.#superSeed.offer(link, emit);
      }
    }
    if (this.#timerSet || !this.#leech || this.#finished) return;
    this.#timerSet = true;
    emit({ type: 'setTimer', key: 'tick', atMs: nowMs + this.limits.tickMs });
  }

  #schedule(nowMs: number, emit: Emit): void {
    if (this.#wanted.list.length > 0 || this.#inFlight.size > 0) this.#readerHeads(nowMs, emit);
    const view: PickView = {
      limits: this.limits,
      chance: this.#chance,
      wanted: this.#wanted.list,
      isWanted: (index) => this.#wanted.has(index),
      rarity: (index) => this.#peerHolders[index]! + this.#originHolders[index]!,
      readers: [...this.#readers.values()].map((reader) => reader.index),
      mayAsk: (link, index, urgent) => this.#asking.mayAsk(link, index, urgent, nowMs),
    };
    for (const link of this.links.values()) {
      while (
        this.#wanted.list.length > 0 &&
        this.#inFlight.size < this.limits.inFlight &&
        !this.#noBuffers &&
        link.room(this.limits) > 0
      ) {
        const index = pickPiece(view, link);
        if (index < 0) break;
        this.#fetch(link, index, nowMs, emit);
      }
    }
    for (const [index, ids] of this.#inFlight) this.#hedge(index, ids, nowMs, emit);
  }

  /** The pieces straight in front of a reader go to whoever brings them soonest. */
  #readerHeads(nowMs: number, emit: Emit): void {
    for (const reader of this.#readers.values()) {
      for (let index = reader.index; index < reader.index + this.limits.readerHead; index++) {
        if (!this.#wanted.has(index) || this.#noBuffers) continue;
        const best = this.#asking.soonest(index, nowMs, true);
        if (best !== undefined) this.#fetch(best, index, nowMs, emit);
      }
    }
  }

  /** A fetch that does not move, or that the endgame can beat, gets a second source. */
  #hedge(index: number, ids: readonly LinkId[], nowMs: number, emit: Emit): void {
    if (ids.length >= this.limits.fetchers + this.#stalledAmong(ids) || this.#noBuffers) return;
    const urgent = this.#asking.readerWaits(index, nowMs);
    let stuck = true;
    let youngestMs = Number.POSITIVE_INFINITY;
    for (const id of ids) {
      const link = this.links.get(id);
      const fetch = link?.fetches.get(index);
      if (link === undefined || fetch === undefined) continue;
      // A peer sends pieces one after the other: a queued one waits while the link moves, but a reader does not.
      const movedMs = urgent ? fetch.lastByteMs : Math.max(fetch.lastByteMs, link.lastByteMs);
      if (nowMs - movedMs < this.limits.stallMs) stuck = false;
      youngestMs = Math.min(youngestMs, nowMs - fetch.startedMs);
    }
    const nearEnd = this.#wanted.list.length === 0 && this.#inFlight.size <= this.limits.endgame;
    if (!stuck && (!nearEnd || youngestMs < this.limits.endgameMinMs)) return;
    const best = this.#asking.soonest(index, nowMs, stuck);
    if (best === undefined || (best.room(this.limits) <= 0 && !urgent)) return;
    if (!stuck && youngestMs < best.costMs() * this.limits.endgameFactor) return;
    this.#fetch(best, index, nowMs, emit);
  }

  #stalledAmong(ids: readonly LinkId[]): number {
    return ids.filter((id) => this.links.get(id)?.stalled === true).length;
  }

  #fetch(link: Link, index: number, nowMs: number, emit: Emit): void {
    link.begin(index, nowMs);
    const others = this.#inFlight.get(index);
    if (others === undefined) this.#inFlight.set(index, [link.id]);
    else others.push(link.id);
    this.#wanted.delete(index);
    emit({ type: 'fetch', link: link.id, index });
  }

  #wireOf(peerId: string): Link | undefined {
    for (const link of this.links.values()) if (link.kind === 'wire' && link.peerId === peerId) return link;
    return undefined;
  }

  #link(
    id: LinkId,
    nowMs: number,
    of: Omit<ConstructorParameters<typeof Link>[0], 'id' | 'nowMs' | 'pieceCount'>,
  ): Link {
    return new Link({ ...of, id, nowMs, pieceCount: this.#init.pieceCount });
  }
}
