import { backoffMs } from '@sepia/base/async/backoff';
import type { Bans } from './bans.ts';
import type { DownReason, Emit, KnownPeer, LinkId } from './events.ts';
import type { CoreLimits } from './limits.ts';
import type { Chance } from './random.ts';
import { banIdOf, isStrangerId } from './strangers/stranger-id.ts';

interface PeerState {
  peer: KnownPeer;
  /** `idle` → `dialling` (link drawn) → `linked` → `idle` with a pause. */
  state: 'idle' | 'dialling' | 'linked';
  link: LinkId | undefined;
  failures: number;
  notBeforeMs: number;
  nextAddress: number;
}

/**
 * Whom to dial and when: known peers, pauses that double, bans. A peer that is full or gone is no liar:
 * it is asked again later. Origins first, then the own zone, then by lot.
 */
export class Dialling {
  readonly #limits: CoreLimits;
  readonly #chance: Chance;
  readonly #ownId: string;
  readonly #zone: string;
  readonly #peers = new Map<string, PeerState>();
  readonly #bans: Bans;
  /** Peers that are being dialled, and known ones that are members and no origins. */
  #pending = 0;
  #sharing = 0;
  /** No known peer becomes dialable before this: until then, without news, the list is not walked. */
  #nextMs = 0;
  /** `Bans.eased` when it was last looked. */
  #eased = 0;

  constructor(init: { limits: CoreLimits; chance: Chance; ownId: string; zone: string; bans: Bans }) {
    this.#bans = init.bans;
    this.#limits = init.limits;
    this.#chance = init.chance;
    this.#ownId = init.ownId;
    this.#zone = init.zone;
  }

  get pending(): number {
    return this.#pending;
  }

  /** True if there is anybody to share with: a member that is no origin. */
  get knowsPeers(): boolean {
    return this.#sharing > 0;
  }

  learn(peers: readonly KnownPeer[]): void {
    this.#nextMs = 0;
    for (const peer of peers) {
      if (peer.peerId === this.#ownId || peer.addresses.length === 0) continue;
      const known = this.#peers.get(peer.peerId);
      if (known !== undefined) {
        if (known.peer.addresses.join() !== peer.addresses.join()) known.notBeforeMs = 0;
        this.#sharing += sharing(peer) - sharing(known.peer);
        known.peer = peer;
        continue;
      }
      if (this.#peers.size >= this.#limits.knownPeers && !this.#forgetOne()) return;
      this.#sharing += sharing(peer);
      this.#peers.set(peer.peerId, {
        peer,
        state: 'idle',
        link: undefined,
        failures: 0,
        notBeforeMs: 0,
        nextAddress: 0,
      });
    }
  }

  /** Two wires between the same two: the one that the smaller peer id dialled stays, unless the old one is long settled. */
  newWins(
    fresh: { readonly peerId: string; readonly dialled: boolean },
    old: { readonly upMs: number; readonly dialled: boolean },
    nowMs: number,
  ): boolean {
    if (nowMs - old.upMs > this.#limits.settledMs || fresh.dialled === old.dialled) return true;
    return fresh.dialled === this.#ownId < fresh.peerId;
  }

  banned(peerId: string, nowMs: number): boolean {
    return this.#bans.has(banIdOf(peerId), nowMs);
  }

  /** Bans a peer that sent a bad piece: for long, but an origin only for a while (it may be the only source). */
  ban(peerId: string, origin: boolean, nowMs: number): void {
    this.#bans.add(banIdOf(peerId), nowMs + (origin ? this.#limits.originBanMs : this.#limits.banMs));
  }

  /** Dials what may be dialled now, up to the limit of wires. */
  dial(wires: number, nowMs: number, draw: () => LinkId, emit: Emit): void {
    let room = this.#limits.dialledWires - wires - this.#pending;
    if (room <= 0 || (nowMs < this.#nextMs && this.#eased === this.#bans.eased)) return;
    this.#eased = this.#bans.eased;
    const ready: { one: PeerState; order: number }[] = [];
    let nextMs = Number.POSITIVE_INFINITY;
    for (const one of this.#peers.values()) {
      if (one.state !== 'idle') continue;
      const fromMs = Math.max(one.notBeforeMs, this.#bans.untilMs(banIdOf(one.peer.peerId), nowMs));
      if (fromMs > nowMs) {
        nextMs = Math.min(nextMs, fromMs);
        continue;
      }
      const near = one.peer.zone === this.#zone ? 0 : 1;
      const rank = one.peer.origin ? 0 : isStrangerId(one.peer.peerId) ? 4 : 2;
      ready.push({ one, order: rank + near + this.#chance.next() });
    }
    this.#nextMs = ready.length > room ? nowMs : nextMs;
    ready.sort((a, b) => a.order - b.order);
    for (const { one } of ready) {
      if (room-- <= 0) return;
      this.#to(one, 'dialling');
      one.link = draw();
      const address = one.peer.addresses[one.nextAddress++ % one.peer.addresses.length]!;
      emit({ type: 'dial', link: one.link, peerId: one.peer.peerId, address });
    }
  }

  /** True if the link was dialled for a peer that is known. */
  onUp(peerId: string, link: LinkId): void {
    const one = this.#peers.get(peerId);
    if (one === undefined) return;
    this.#to(one, 'linked');
    one.link = link;
    one.failures = 0;
  }

  onDown(link: LinkId, reason: DownReason, nowMs: number): void {
    for (const one of this.#peers.values()) {
      if (one.link !== link) continue;
      one.link = undefined;
      this.#to(one, 'idle');
      this.#nextMs = 0;
      if (reason === 'duplicate') {
        one.notBeforeMs = nowMs + this.#limits.backoffMinMs;
        return;
      }
      const pause = backoffMs(one.failures + 1, this.#limits.backoffMinMs, this.#limits.backoffMaxMs);
      const patience = reason === 'gone' || reason === 'full' || reason === 'done' ? 4 : 1;
      one.failures += 1;
      one.notBeforeMs =
        nowMs + Math.min(this.#limits.backoffMaxMs, pause * patience) * (0.75 + 0.5 * this.#chance.next());
      return;
    }
  }

  #forgetOne(): boolean {
    for (const [peerId, one] of this.#peers) {
      if (one.state !== 'idle' || one.failures === 0) continue;
      this.#peers.delete(peerId);
      this.#sharing -= sharing(one.peer);
      return true;
    }
    return false;
  }

  #to(one: PeerState, state: PeerState['state']): void {
    if (one.state === 'dialling') this.#pending -= 1;
    if (state === 'dialling') this.#pending += 1;
    one.state = state;
  }
}

/** 1 for a member that is no origin. */
function sharing(peer: KnownPeer): number {
  return peer.origin || isStrangerId(peer.peerId) ? 0 : 1;
}
