import { type Chance, preferZone, sample } from './handout.ts';

/** Most seeds remembered per blob; further ones replace a random one (design, "Tracker"). */
export const MAX_SEEDS_PER_BLOB = 100;
/** Nodes with a lease; further ones are refused until others expire. */
export const MAX_NODES = 50_000;

/** What a node says of itself with each join or heartbeat. */
export interface NodeFacts {
  readonly nodeId: string;
  readonly addresses: readonly string[];
  readonly zone?: string | undefined;
}

/** Somebody handed out, and why: for logs and tests. */
export interface Handout {
  readonly nodeId: string;
  readonly addresses: readonly string[];
  readonly zone: string | undefined;
  readonly reason: 'leecher' | 'seed';
}

interface Node {
  facts: NodeFacts;
  bootId: string;
  seq: number;
  heardAtMs: number;
  expiresAtMs: number;
  setHash: string;
  readonly seeds: Set<string>;
  readonly leeching: Map<string, string | undefined>;
}

interface Blob {
  readonly seeds: Set<string>;
  readonly leechers: Set<string>;
}

interface Renewal extends NodeFacts {
  readonly bootId: string;
  readonly seq: number;
  readonly ttlMs: number;
  readonly add: readonly string[];
  readonly drop: readonly string[];
  readonly leeching: readonly string[];
  readonly setHash: string;
}

/** Who has what: node leases and the seeds and leechers of each blob. Pure; time and chance are passed in. */
export class SwarmTable {
  readonly #nodes = new Map<string, Node>();
  readonly #blobs = new Map<string, Blob>();
  readonly #chance: Chance;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  get nodeCount(): number {
    return this.#nodes.size;
  }

  /**
   * A heartbeat. Answers `resync` when the node's set is not the one known here (restart of either side, a lost
   * message): the node then sends its full set. An older `seq` of the same boot changes nothing.
   */
  renew(
    renewal: Renewal,
    hashOf: (digests: Iterable<string>) => string,
    nowMs: number,
  ): { resync: boolean; refused: boolean } {
    let node = this.#nodes.get(renewal.nodeId);
    if (node === undefined && this.#nodes.size >= MAX_NODES) return { resync: false, refused: true };
    if (node !== undefined && node.bootId === renewal.bootId && renewal.seq < node.seq)
      return { resync: false, refused: false };
    if (node !== undefined && node.bootId !== renewal.bootId) {
      this.forget(renewal.nodeId);
      node = undefined;
    }
    node ??= this.#create(renewal, renewal.bootId);
    node.facts = factsOf(renewal);
    node.seq = renewal.seq;
    node.heardAtMs = nowMs;
    node.expiresAtMs = nowMs + renewal.ttlMs;
    for (const digest of renewal.drop) this.#dropSeed(node, digest);
    for (const digest of renewal.add) this.#addSeed(node, digest);
    const leeching = new Set(renewal.leeching);
    for (const digest of node.leeching.keys()) if (!leeching.has(digest)) this.#dropLeecher(node, digest);
    for (const digest of leeching) this.#addLeecher(node, digest, node.leeching.get(digest));
    node.setHash = hashOf(node.seeds);
    return { resync: node.setHash !== renewal.setHash, refused: false };
  }

  /** A join outside the heartbeat. `ttlMs` applies if the node has no lease yet. */
  join(
    facts: NodeFacts,
    digest: string,
    leeching: boolean,
    attempt: string | undefined,
    ttlMs: number,
    nowMs: number,
  ): void {
    let node = this.#nodes.get(facts.nodeId);
    if (node === undefined) {
      if (this.#nodes.size >= MAX_NODES) return;
      node = this.#create(facts, '');
      node.expiresAtMs = nowMs + ttlMs;
    }
    node.facts = factsOf(facts);
    node.heardAtMs = nowMs;
    node.expiresAtMs = Math.max(node.expiresAtMs, nowMs + ttlMs);
    if (leeching) this.#addLeecher(node, digest, attempt);
    else {
      this.#dropLeecher(node, digest);
      this.#addSeed(node, digest);
    }
  }

  /**
   * At most `numwant` peers for a blob, never the asker: leechers and seeds in random order, those of the asker's
   * zone first but never only those.
   */
  handout(digest: string, asker: NodeFacts, numwant: number): Handout[] {
    const blob = this.#blobs.get(digest);
    if (blob === undefined) return [];
    const entries: Handout[] = [];
    const add = (ids: Iterable<string>, reason: Handout['reason']): void => {
      for (const id of ids) {
        const node = this.#nodes.get(id);
        if (node === undefined || id === asker.nodeId || node.facts.addresses.length === 0) continue;
        entries.push({ nodeId: id, addresses: node.facts.addresses, zone: node.facts.zone, reason });
      }
    };
    add(sample([...blob.leechers], numwant * 2, this.#chance), 'leecher');
    add(sample([...blob.seeds], numwant * 2, this.#chance), 'seed');
    return preferZone(sample(entries, entries.length, this.#chance), asker.zone, numwant);
  }

  /** Nodes that hold pieces of an open attempt, for a leader that takes over. */
  holders(digest: string, numwant: number): Handout[] {
    return this.handout(digest, { nodeId: '', addresses: [] }, numwant);
  }

  /** True if the node seeds or downloads the blob. */
  isIn(digest: string, nodeId: string): boolean {
    const blob = this.#blobs.get(digest);
    return blob !== undefined && (blob.seeds.has(nodeId) || blob.leechers.has(nodeId));
  }

  leecherCount(digest: string): number {
    return this.#blobs.get(digest)?.leechers.size ?? 0;
  }

  /** Nodes with their lease, and when they were last heard of, for people who look. */
  *nodes(): Generator<{ facts: NodeFacts; heardAtMs: number; seeds: number }> {
    for (const node of this.#nodes.values())
      yield { facts: node.facts, heardAtMs: node.heardAtMs, seeds: node.seeds.size };
  }

  forget(nodeId: string): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return;
    for (const digest of node.seeds) this.#dropSeed(node, digest);
    for (const digest of node.leeching.keys()) this.#dropLeecher(node, digest);
    this.#nodes.delete(nodeId);
  }

  /** Drops every lease that has run out; returns the ids. */
  expire(nowMs: number): string[] {
    const gone: string[] = [];
    for (const [id, node] of this.#nodes) if (node.expiresAtMs <= nowMs) gone.push(id);
    for (const id of gone) this.forget(id);
    return gone;
  }

  #create(facts: NodeFacts, bootId: string): Node {
    const node: Node = {
      facts,
      bootId,
      seq: -1,
      heardAtMs: 0,
      expiresAtMs: 0,
      setHash: '',
      seeds: new Set(),
      leeching: new Map(),
    };
    this.#nodes.set(facts.nodeId, node);
    return node;
  }

  #blob(digest: string): Blob {
    let blob = this.#blobs.get(digest);
    if (blob === undefined) {
      blob = { seeds: new Set(), leechers: new Set() };
      this.#blobs.set(digest, blob);
    }
    return blob;
  }

  #addSeed(node: Node, digest: string): void {
    node.seeds.add(digest);
    const blob = this.#blob(digest);
    if (blob.seeds.has(node.facts.nodeId)) return;
    if (blob.seeds.size >= MAX_SEEDS_PER_BLOB) {
      const [victim] = sample([...blob.seeds], 1, this.#chance);
      blob.seeds.delete(victim!);
    }
    blob.seeds.add(node.facts.nodeId);
  }

  #dropSeed(node: Node, digest: string): void {
    node.seeds.delete(digest);
    this.#blobs.get(digest)?.seeds.delete(node.facts.nodeId);
    this.#tidy(digest);
  }

  #addLeecher(node: Node, digest: string, attempt: string | undefined): void {
    node.leeching.set(digest, attempt);
    this.#blob(digest).leechers.add(node.facts.nodeId);
  }

  #dropLeecher(node: Node, digest: string): void {
    node.leeching.delete(digest);
    this.#blobs.get(digest)?.leechers.delete(node.facts.nodeId);
    this.#tidy(digest);
  }

  #tidy(digest: string): void {
    const blob = this.#blobs.get(digest);
    if (blob !== undefined && blob.seeds.size === 0 && blob.leechers.size === 0) this.#blobs.delete(digest);
  }
}

function factsOf({ nodeId, addresses, zone }: NodeFacts): NodeFacts {
  return { nodeId, addresses, zone };
}
