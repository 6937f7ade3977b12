import type { Bitfield } from '@sepia/base/bitfield';
import { Asking } from './asking.ts';
import { Bans } from './bans.ts';
import type { CoreInit } from './core-init.ts';
import { Dialling } from './dialling.ts';
import type { DownReason, Emit, LinkId, SwarmEvent } from './events.ts';
import { Fetching } from './fetching.ts';
import { Lack } from './lack.ts';
import { CORE_LIMITS, type CoreLimits } from './limits.ts';
import { type LinePlace, SharedLine } from './line/shared-line.ts';
import { Link, type LinkOf, wireOf } from './link.ts';
import { LinkTable } from './link-table.ts';
import { Hearing, PieceTable } from './pieces.ts';
import { Chance } from './random.ts';
import { Readers } from './readers.ts';
import { isStrangerId } from './strangers/stranger-id.ts';
import { SuperSeed } from './super-seed.ts';
import { Wish } from './wish.ts';
import { ZoneMeter } from './zone-meter.ts';

type Of<T extends SwarmEvent['type']> = Extract<SwarmEvent, { type: T }>;

/**
 * All decisions of one member in one swarm: whom to dial, what to ask of whom, when to ask somebody else, what to give.
 * Pure: time and chance come in, effects go out through `emit`; the same events give the same effects.
 * A piece comes from one link as a whole, so a bad one is its sender's.
 */
export class SwarmCore {
  readonly #links: LinkTable;
  readonly have: Bitfield;
  readonly limits: CoreLimits;
  readonly #init: CoreInit;
  readonly #chance: Chance;
  readonly #dialling: Dialling;
  readonly #superSeed: SuperSeed | undefined;
  readonly #pieces: PieceTable;
  readonly #readers: Readers;
  readonly #fetching: Fetching;
  readonly #hearing: Hearing;
  readonly #zones: ZoneMeter;
  readonly #line: LinePlace;
  #nextLink = 0;
  readonly #wish: Wish;
  #timerSet = false;
  readonly #lack: Lack;
  #wireByteMs: number;

  constructor(init: CoreInit) {
    this.#init = init;
    this.limits = { ...CORE_LIMITS, ...init.limits };
    this.#links = new LinkTable(this.limits);
    this.#readers = new Readers(init.knows);
    this.#wish = new Wish(
      { leech: init.leech, wantAll: init.wantAll ?? true, finished: init.have.complete },
      this.#readers,
    );
    this.#pieces = new PieceTable({ ...init, covered: this.#wish.covers });
    this.have = this.#pieces.have;
    this.#chance = new Chance(init.seed);
    this.#dialling = new Dialling({
      limits: this.limits,
      chance: this.#chance,
      ownId: init.peerId,
      zone: init.zone,
      bans: init.bans ?? new Bans(),
    });
    this.#zones = new ZoneMeter(this.limits.farShare);
    this.#wireByteMs = init.nowMs;
    this.#lack = new Lack(this.limits.wantPeersMs, init.nowMs);
    this.#line = init.line ?? new SharedLine(init.nowMs).place();
    const parts = {
      ...{ limits: this.limits, chance: this.#chance, have: this.have, links: this.#links },
      ...{ pieces: this.#pieces, readers: this.#readers, line: this.#line },
    };
    if (init.origin) this.#superSeed = new SuperSeed({ ...parts, holders: this.#pieces.peerHolders });
    const asking = new Asking({
      ...parts,
      zone: init.zone,
      origin: init.origin,
      dialling: this.#dialling,
      zones: this.#zones,
      wireByteMs: () => this.#wireByteMs,
    });
    this.#fetching = new Fetching({ ...parts, asking });
    this.#hearing = new Hearing({ ...parts, superSeed: this.#superSeed });
  }

  /** All that is known of each link. */
  get links(): LinkTable {
    this.#hearing.settle();
    return this.#links;
  }

  /** Whether it is asked for that piece. */
  isAsked(link: LinkId, index: number): boolean {
    return this.#links.get(link)?.fetches.has(index) === true;
  }

  /** Draws a link id; the shell uses it for what comes in and for HTTP sources. */
  readonly drawLink = (): LinkId => this.#nextLink++;

  /** Whether a peer that dials may come in. */
  welcome(peerId: string, nowMs: number): 'yes' | 'full' | 'banned' {
    if (this.#dialling.banned(peerId, nowMs)) return 'banned';
    const isStranger = isStrangerId(peerId);
    const limit = isStranger ? this.limits.strangerWires : this.limits.wires;
    return (isStranger ? this.#links.strangers : this.#links.members) >= limit ? 'full' : 'yes';
  }

  handle(event: SwarmEvent, nowMs: number, emit: Emit): void {
    if (event.type === 'haves' && this.#hearing.mayWait) {
      this.#hearing.later(event.link, event.indexes);
      return;
    }
    // Those two look at nothing that peers said.
    if (event.type !== 'progress' && event.type !== 'asked') this.#hearing.settle();
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
      case 'choked':
        this.#links.get(event.link)?.choke(event.on);
        break;
      case 'linkDown':
        this.#down(event.link, event.reason, nowMs);
        break;
      case 'bitfield':
      case 'haves':
        this.#onHaves(event.link, event.indexes, nowMs, emit);
        return;
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
        this.#pieces.learnHashes();
        this.#readers.learnHashes(nowMs);
        break;
      case 'buffers':
        this.#fetching.noBuffers = false;
        break;
      case 'reader':
        this.#onReader(event, nowMs);
        break;
      case 'readerClosed':
        this.#readers.delete(event.reader);
        this.#wish.readersChanged(this.#pieces);
        break;
      case 'wantAll':
        this.#wish.wantAll(this.#pieces, this.#init.pieceCount);
        break;
      case 'leech':
        this.#wish.leech = event.on;
        break;
      case 'timer':
        this.#timerSet = false;
        this.#onTick(nowMs, emit);
    }
    this.#work(nowMs, emit);
  }

  /** It takes part no more: others have its share of the line. Nothing is to be told after. */
  leave(): void {
    for (const share of [this.#line.asked, this.#line.suggested]) share.note(0);
    for (const link of this.#links.values()) link.placed(undefined);
  }

  #onReader({ reader, index, last = this.#init.pieceCount - 1 }: Of<'reader'>, nowMs: number): void {
    this.#readers.set(reader, index, last, nowMs);
    this.#wish.readersChanged(this.#pieces, index, last);
  }

  #onHttpUp({ link, has }: Of<'httpUp'>, nowMs: number): void {
    const http = { kind: 'http', peerId: '', origin: true, zone: '', dialled: true, httpHas: has } as const;
    this.#links.set(link, this.#link(link, nowMs, http));
  }

  #onWireUp(event: Of<'wireUp'>, nowMs: number, emit: Emit): void {
    const other = wireOf(this.#links.values(), event.peerId);
    if (other !== undefined && !this.#dialling.newWins(event, other, nowMs)) {
      emit({ type: 'close', link: event.link, reason: 'duplicate' });
      return;
    }
    this.#dialling.onUp(event.peerId, event.link);
    const { peerId, origin, zone, dialled, isStranger = false } = event;
    const wire = { kind: 'wire', peerId, origin, zone, dialled, isStranger } as const;
    this.#links.set(event.link, this.#link(event.link, nowMs, wire));
    if (other !== undefined) {
      emit({ type: 'close', link: other.id, reason: 'duplicate' });
      this.#down(other.id, 'duplicate', nowMs);
    }
    if (this.have.count > 0) emit({ type: 'sendBitfield', link: event.link });
  }

  #close(link: Link, reason: DownReason, nowMs: number, emit: Emit, piece?: number): void {
    emit({ type: 'close', link: link.id, reason, ...(piece === undefined ? {} : { piece }) });
    this.#down(link.id, reason, nowMs);
  }

  #down(id: LinkId, reason: DownReason, nowMs: number): void {
    this.#dialling.onDown(id, reason, nowMs);
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#pieces.lost(link);
    this.#links.delete(id);
    for (const index of link.fetches.keys()) this.#pieces.release(id, index);
    this.#superSeed?.onDown(link);
  }

  /** What is not wanted changes nothing, unless something may be given for it. */
  #onHaves(id: LinkId, indexes: Iterable<number>, nowMs: number, emit: Emit): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    const heard = this.#hearing.hear(link, indexes, nowMs);
    const isClosed = this.#closeDone(link, nowMs, emit);
    if (heard !== 'nothing' || isClosed || this.#superSeed !== undefined)
      this.#work(nowMs, emit, heard === 'next');
  }

  #onSuggested(event: Of<'suggested'>): void {
    const link = this.#links.get(event.link);
    if (link !== undefined && link.suggested.size < this.limits.sample) link.suggested.add(event.index);
  }

  #onAsked(event: Of<'asked'>, nowMs: number, emit: Emit): void {
    const link = this.#links.get(event.link);
    const { index } = event;
    if (link === undefined || !this.have.has(index)) {
      emit({ type: 'refuse', link: event.link, index });
      return;
    }
    const admitted =
      this.#superSeed === undefined ||
      link.origin ||
      link.isStranger ||
      this.#superSeed.admit(link, index, this.#links.values(), nowMs);
    emit({ type: admitted ? 'readPiece' : 'refuse', link: link.id, index });
  }

  #onProgress(event: Of<'progress'>, nowMs: number): void {
    const link = this.#links.get(event.link);
    if (link === undefined) return;
    link.onBytes(event.index, event.bytes, nowMs);
    this.#line.came(event.bytes, nowMs);
    this.#hearing.mayWait &&= !this.#fetching.mayAskMore;
    if (link.kind !== 'wire' || link.isStranger) return;
    this.#wireByteMs = nowMs;
    this.#zones.add(event.bytes, link.zone !== this.#init.zone);
  }

  #onFetched(event: Of<'fetched'>, nowMs: number, emit: Emit): void {
    const { index } = event;
    const link = this.#links.get(event.link);
    link?.end(index);
    const useful = event.good && !this.have.has(index) && !this.#pieces.writing.has(index);
    if (useful) {
      this.#pieces.writing.add(index);
      emit({ type: 'writePiece', link: event.link, index });
      this.#cancelRest(index, event.link, emit);
    } else {
      this.#pieces.release(event.link, index);
      emit({ type: 'dropPiece', link: event.link, index, bad: !event.good });
    }
    if (link === undefined) return;
    if (event.good) link.failures = 0;
    else this.#punish(link, index, nowMs, emit);
  }

  #cancelRest(index: number, but: LinkId | undefined, emit: Emit): void {
    for (const id of this.#pieces.settle(index)) {
      if (id === but) continue;
      this.#links.get(id)?.end(index);
      emit({ type: 'cancel', link: id, index });
    }
  }

  /** A bad piece came from `link`. An HTTP source is left alone for a while, a wire is closed and its peer banned, and told. */
  #punish(link: Link, piece: number, nowMs: number, emit: Emit): void {
    if (link.kind === 'http') {
      link.pause(this.limits, nowMs);
      return;
    }
    this.#dialling.ban(link.peerId, link.origin, nowMs);
    emit({ type: 'log', level: 'warn', message: 'peer sent a bad piece', detail: { peerId: link.peerId } });
    this.#close(link, 'banned', nowMs, emit, piece);
  }

  #onFetchFailed(event: Of<'fetchFailed'>, nowMs: number): void {
    const link = this.#links.get(event.link);
    link?.end(event.index);
    this.#pieces.release(event.link, event.index);
    if (event.busy) this.#fetching.noBuffers = true;
    else if (link?.kind === 'http') link.pause(this.limits, nowMs);
    else link?.refuse(event.index, nowMs + this.limits.refusedMs);
  }

  #onWritten(event: Of<'written'>, nowMs: number, emit: Emit): void {
    this.#pieces.writing.delete(event.index);
    if (event.ok) this.#onLanded(event.index, nowMs, emit);
    else this.#pieces.want(event.index);
  }

  #onLanded(index: number, nowMs: number, emit: Emit): void {
    if (!this.have.add(index)) return;
    this.#cancelRest(index, undefined, emit);
    this.#superSeed?.onLanded(index);
    // A peer that has it need not know; an origin must, to see what is out already.
    this.#links.forEachToTell(
      (seat) => this.#pieces.isWith(seat, index),
      (link) => emit({ type: 'sendHave', link, index }),
    );
    if (!this.have.complete || this.#wish.finished) return;
    this.#wish.finished = true;
    emit({ type: 'finish' });
    for (const link of [...this.#links.values()]) this.#closeDone(link, nowMs, emit);
  }

  /** Two that have everything have nothing to say: the wire makes room. */
  #closeDone(link: Link, nowMs: number, emit: Emit): boolean {
    if (link.kind !== 'wire' || !link.has.complete || !this.have.complete) return false;
    this.#close(link, 'done', nowMs, emit);
    return true;
  }

  #onTick(nowMs: number, emit: Emit): void {
    const line = this.#fetching.line(nowMs);
    for (const link of [...this.#links.values()]) {
      if (link.kind === 'wire' && this.#dialling.banned(link.peerId, nowMs)) {
        // It lied in another swarm.
        this.#close(link, 'banned', nowMs, emit);
        continue;
      }
      if (!link.checkSilence(this.limits, nowMs, line)) continue;
      if (link.kind === 'wire') {
        this.#close(link, 'failed', nowMs, emit);
        continue;
      }
      link.pause(this.limits, nowMs);
      for (const index of [...link.fetches.keys()]) {
        emit({ type: 'cancel', link: link.id, index });
        link.end(index);
        this.#pieces.release(link.id, index);
      }
    }
    const wanting = this.#wish.isWanting(this.#pieces);
    if (wanting) this.#fetching.hedge(nowMs, emit);
    if (this.#lack.check(this.#links.values(), wanting, nowMs)) emit({ type: 'wantPeers' });
  }

  #work(nowMs: number, emit: Emit, heads = true): void {
    const wanting = this.#wish.isWanting(this.#pieces);
    if (wanting) {
      this.#dialling.dial(this.#links.members, nowMs, this.drawLink, emit);
      this.#fetching.schedule(nowMs, emit, heads);
    }
    this.#line.asked.note(this.#pieces.inFlight.size);
    this.#superSeed?.offer(this.#links.values(), nowMs, emit);
    this.#hearing.mayWait = wanting && this.#superSeed === undefined && this.#isBusy();
    if (this.#timerSet || !wanting) return;
    this.#timerSet = true;
    emit({ type: 'setTimer', key: 'tick', atMs: nowMs + this.limits.tickMs });
  }

  /** True while no announcement could lead to a dial or a request. */
  #isBusy(): boolean {
    const { dialledWires, readerHead } = this.limits;
    if (this.#links.members + this.#dialling.pending < dialledWires || this.#fetching.mayAskMore)
      return false;
    return !this.#readers.areNext(readerHead, this.#pieces.wanted.bits);
  }

  #link(id: LinkId, nowMs: number, of: LinkOf): Link {
    const senders = of.kind === 'wire' ? { senders: this.#line.senders } : {};
    return new Link({ ...of, ...senders, id, nowMs, pieceCount: this.#init.pieceCount });
  }
}
