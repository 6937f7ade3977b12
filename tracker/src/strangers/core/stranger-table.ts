import { hostOf } from '@sepia/base/names/host-of';
import { type Chance, sample } from '../../swarms/core/handout.ts';
import type { AnnounceEvent } from './announce-query.ts';

/** Swarms that strangers take part in, peers of one, and of those from one host; more are not remembered. */
const MAX_SWARMS = 2_000;
const MAX_PEERS = 200;
const MAX_PER_HOST = 16;

/** Where a standard client is reached. `host`: an IP address. */
export interface PeerPlace {
  readonly host: string;
  readonly port: number;
  /** 40 hex, of a standard client. */
  readonly peerId?: string;
}

interface Stranger extends PeerPlace {
  readonly peerId: string;
  readonly complete: boolean;
  readonly untilMs: number;
}

/** Of the leechers that are told, this share came last: they are told at once, however many others there are. */
const NEW_SHARE = 0.5;

interface Swarm {
  readonly peers: Map<string, Stranger>;
  completed: number;
}

/** As a scrape tells them (BEP 48): who has all of it, who lacks some. */
export interface SwarmCounts {
  readonly complete: number;
  readonly incomplete: number;
  /** How many told that they completed it, since this tracker started. */
  readonly downloaded: number;
}

/** Standard clients by infohash (40 hex), as they announced themselves. Pure; time and chance are passed in. */
export class StrangerTable {
  readonly #swarms = new Map<string, Swarm>();
  readonly #chance: Chance;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  /** Notes who announced itself. Whoever does not fit is answered, and told to nobody. */
  announce(
    infoHash: string,
    peer: Omit<Stranger, 'untilMs'>,
    event: AnnounceEvent,
    nowMs: number,
    ttlMs: number,
  ): void {
    const swarm = this.#swarm(infoHash);
    if (swarm === undefined) return;
    const key = keyOf(peer);
    if (event === 'stopped') {
      swarm.peers.delete(key);
      if (swarm.peers.size === 0 && swarm.completed === 0) this.#swarms.delete(infoHash);
      return;
    }
    if (event === 'completed') swarm.completed += 1;
    if (!swarm.peers.has(key) && !fits(swarm, peer.host)) return;
    // Who starts again is new.
    if (event === 'started') swarm.peers.delete(key);
    swarm.peers.set(key, { ...peer, untilMs: nowMs + ttlMs });
  }

  /** At most `numwant` others, in random order. */
  peers(infoHash: string, numwant: number, but?: PeerPlace): PeerPlace[] {
    const all = [...(this.#swarms.get(infoHash)?.peers.values() ?? [])];
    const others = but === undefined ? all : all.filter((peer) => keyOf(peer) !== keyOf(but));
    return sample(others, numwant, this.#chance).map(({ host, port, peerId }) => ({ host, port, peerId }));
  }

  /** At most `numwant` that lack something: first those that came last, the latest first, then others by lot. */
  leechers(infoHash: string, numwant: number): PeerPlace[] {
    const all = [...(this.#swarms.get(infoHash)?.peers.values() ?? [])].filter((peer) => !peer.complete);
    const latest = all.reverse().splice(0, Math.ceil(numwant * NEW_SHARE));
    const others = sample(all, numwant - latest.length, this.#chance);
    return [...latest, ...others].map(({ host, port }) => ({ host, port }));
  }

  has(infoHash: string, place: PeerPlace): boolean {
    return this.#swarms.get(infoHash)?.peers.has(keyOf(place)) === true;
  }

  counts(infoHash: string): SwarmCounts {
    const swarm = this.#swarms.get(infoHash);
    const peers = [...(swarm?.peers.values() ?? [])];
    const complete = peers.filter((peer) => peer.complete).length;
    return { complete, incomplete: peers.length - complete, downloaded: swarm?.completed ?? 0 };
  }

  /** True while somebody takes part. */
  isLive(infoHash: string): boolean {
    return (this.#swarms.get(infoHash)?.peers.size ?? 0) > 0;
  }

  forget(infoHash: string): void {
    this.#swarms.delete(infoHash);
  }

  expire(nowMs: number): void {
    for (const [infoHash, swarm] of this.#swarms) {
      for (const [key, peer] of swarm.peers) if (peer.untilMs <= nowMs) swarm.peers.delete(key);
      if (swarm.peers.size === 0) this.#swarms.delete(infoHash);
    }
  }

  #swarm(infoHash: string): Swarm | undefined {
    let swarm = this.#swarms.get(infoHash);
    if (swarm === undefined && this.#swarms.size < MAX_SWARMS) {
      swarm = { peers: new Map(), completed: 0 };
      this.#swarms.set(infoHash, swarm);
    }
    return swarm;
  }
}

function fits(swarm: Swarm, host: string): boolean {
  if (swarm.peers.size >= MAX_PEERS) return false;
  const own = hostOf(host);
  let ofHost = 0;
  for (const peer of swarm.peers.values()) if (hostOf(peer.host) === own) ofHost += 1;
  return ofHost < MAX_PER_HOST;
}

function keyOf({ host, port }: PeerPlace): string {
  return `${host} ${port}`;
}
