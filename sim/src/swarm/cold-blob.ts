import { digestOf } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import type { KnownPeer } from '@sepia/swarm/core/events';
import type { BlobOrigins } from '../control/keeper.ts';
import { hashOf, OriginFetch } from '../control/origin-fetch.ts';
import type { JoinAnswer, Trackers } from '../control/trackers.ts';
import type { Upstream } from '../control/upstream.ts';
import type { Life } from '../wire/call.ts';
import type { Port } from '../wire/network.ts';
import type { Stage } from '../wire/stage.ts';
import type { SimNode } from './node.ts';

/** Pause of a member that heard nothing new, or nobody, before it asks again, ms. */
const AGAIN_MS = 200;

interface ColdInit {
  readonly stage: Stage;
  readonly number: number;
  readonly pieces: number;
  /** None: nobody but a push brings it. */
  readonly upstream: Upstream | undefined;
  readonly nodes: ReadonlyMap<string, SimNode>;
  /** A piece is at an origin. */
  readonly landed: (origin: string, index: number) => void;
}

/** A blob that no origin has: who leads fetches it, trackers follow it, members hear of its hashes from them. */
export class ColdBlob implements BlobOrigins {
  readonly name: BlobName;
  readonly ids: readonly string[];
  readonly #init: ColdInit;
  readonly #fetches = new Map<string, OriginFetch>();
  /** What each member knows. */
  readonly #known = new Map<string, Metainfo>();
  /** The origin that began last. */
  #leader: string | undefined;

  constructor(init: ColdInit) {
    this.#init = init;
    const digest = digestOf(Buffer.from(`blob ${init.number}`));
    this.name = { upstream: 'hub', repository: 'app' as RepositoryName, digest };
    this.ids = [...init.stage.machines.keys()].filter((name) => name.startsWith('o'));
  }

  /** Pieces that origins got from the registry though they had them. */
  get twice(): number {
    return [...this.#fetches.values()].reduce((total, { twice }) => total + twice, 0);
  }

  get leader(): string | undefined {
    return this.#leader;
  }

  /** Whether a node knows the hash of a piece. */
  knows(node: string, index: number): boolean {
    return (this.#fetches.get(node)?.metainfo ?? this.#known.get(node))?.knows(index) === true;
  }

  readonly life = (id: string): Life => {
    const node = this.#init.nodes.get(id)!;
    return node.alive ? 'up' : node.stopped ? 'stopped' : 'killed';
  };

  readonly port = (id: string): Port => this.#init.stage.machines.get(id)!.port;

  readonly peer = (id: string): KnownPeer => this.#init.nodes.get(id)!.asPeer();

  readonly fetchOf = (id: string): OriginFetch | undefined => this.#fetches.get(id);

  readonly lead = (
    id: string,
    adopt: Metainfo | undefined,
    holders: readonly KnownPeer[],
  ): OriginFetch | undefined => {
    if (this.#init.upstream === undefined) return undefined;
    const node = this.#init.nodes.get(id)!;
    const fetch = this.#fetch(
      id,
      this.#indexes().filter((index) => node.has(index)),
      adopt,
    );
    fetch.start();
    if (adopt !== undefined) node.tell({ type: 'hashes' });
    if (holders.length > 0) node.tell({ type: 'peers', peers: holders });
    return fetch;
  };

  /** Runs at an origin that has all of it on disk. */
  hold(id: string): void {
    const node = this.#init.nodes.get(id)!;
    const isNew = !node.durable.complete;
    this.#fetch(id, this.#indexes(), undefined);
    if (!isNew) return;
    for (const index of this.#indexes()) node.onKnown(index, true);
    node.ended(this.#init.stage.clock.nowMs);
  }

  #indexes(): number[] {
    return Array.from({ length: this.#init.pieces }, (_, index) => index);
  }

  #fetch(id: string, kept: readonly number[], adopt: Metainfo | undefined): OriginFetch {
    const { stage, pieces, upstream, nodes, landed } = this.#init;
    const node = nodes.get(id)!;
    const fetch = new OriginFetch({
      clock: stage.clock,
      upstream,
      machine: stage.machines.get(id)!,
      digest: this.name.digest,
      pieces,
      adopt,
      kept,
      isUp: () => node.alive,
      peerPieces: () => node.peerPieces(),
      onPiece: (index) => {
        node.onKnown(index, true);
        landed(id, index);
      },
    });
    this.#leader = id;
    this.#fetches.set(id, fetch);
    node.onWritten = (index) => {
      fetch.landed(index);
      landed(id, index);
    };
    return fetch;
  }

  /** It starts anew, with what is on its disk alone. */
  forget(node: string): void {
    this.#known.delete(node);
    this.#fetches.delete(node);
    if (this.#leader === node) this.#leader = undefined;
    const { durable, origin } = this.#init.nodes.get(node)!;
    if (origin && durable.complete) this.hold(node);
  }

  /** Somebody reads a piece at an origin that is to get it; returns how to leave. */
  read(id: string, index: number): () => void {
    return this.#fetches.get(id)?.read(index) ?? (() => undefined);
  }

  /** A member's join that follows the hashes from its first answer on. */
  join(
    trackers: Trackers,
  ): (asker: KnownPeer, leeching: boolean, told: (answer: JoinAnswer) => void) => void {
    return (asker, leeching, told) => {
      trackers.join(this.#init.number, asker, leeching, (answer) => {
        const isFirst = !this.#known.has(asker.peerId);
        if (answer.metainfo !== undefined) this.#learn(asker.peerId, answer.metainfo);
        told(answer);
        if (isFirst) this.#follow(trackers, asker.peerId);
      });
    };
  }

  #follow(trackers: Trackers, member: string): void {
    const node = this.#init.nodes.get(member)!;
    const known = this.#known.get(member)!;
    if (!node.alive || node.done || known.state === 'final') return;
    trackers.news(this.#init.number, this.port(member), known.etag, (news) => {
      if (news !== undefined) this.#learn(member, news);
      const { clock } = this.#init.stage;
      clock.at(clock.nowMs + (news === undefined ? AGAIN_MS : 0), () => this.#follow(trackers, member));
    });
  }

  /** @throws {Error} where a tracker says what no origin did */
  #learn(member: string, news: Metainfo): void {
    const before = this.#known.get(member);
    const had = Array.from({ length: news.pieceCount }, (_, index) => before?.knows(index) === true);
    if (before !== undefined && before.merge(news) !== 'merged')
      throw new Error(`${member}: hashes of another attempt`);
    const known = before ?? news;
    this.#known.set(member, known);
    const node = this.#init.nodes.get(member)!;
    for (let index = 0; index < known.pieceCount; index++) {
      if (had[index] || !known.knows(index)) continue;
      if (!known.matches(index, hashOf(index))) throw new Error(`${member}: wrong hash of piece ${index}`);
      node.onKnown(index, false);
    }
  }
}
