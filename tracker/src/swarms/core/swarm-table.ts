import { type Chance, type Deck, drawFrom, firstOf } from './handout.ts';
import { IdSet } from './id-set.ts';
import { Lot } from './lot.ts';
import { Twins } from './twins.ts';

/** Most seeds remembered per blob; further ones replace a random one. */
export const MAX_SEEDS_PER_BLOB = 100;
/** Nodes with a lease; further ones are refused until others expire. */
export const MAX_NODES = 50_000;

/** What a node says of itself with each join or heartbeat. */
export interface NodeFacts {
  readonly nodeId: string;
  readonly addresses: readonly string[];
  readonly zone?: string | undefined;
}

/** A peer of a handout, and why it was chosen; the same object while none of its facts change, so that its JSON can be kept. */
export interface Handout {
  readonly nodeId: string;
  readonly addresses: readonly string[];
  readonly zone: string | undefined;
  readonly reason: 'leecher' | 'seed';
}

interface Node {
  facts: NodeFacts;
  /** Its handouts, made of its present facts. */
  told: { [reason in Handout['reason']]?: Handout };
  bootId: string;
  seq: number;
  heardAtMs: number;
  expiresAtMs: number;
  /** Of the digests of `seeds`, kept up with each change: 15,000 heartbeats need not hash 500 digests each. */
  setHash: bigint;
  /** Blobs by their `id`. */
  readonly seeds: IdSet;
  readonly leeching: Set<Blob>;
}

interface Blob {
  /** Of those that are known now; used again once it is forgotten. */
  readonly id: number;
  readonly digest: string;
  readonly hash: bigint;
  /** Nodes that say they have it, whether or not they are remembered as its seeds. */
  holders: number;
  readonly seeds: Lot<Node>;
  readonly leechers: Lot<Node>;
}

interface Renewal extends NodeFacts {
  readonly bootId: string;
  readonly seq: number;
  readonly ttlMs: number;
  readonly add: readonly string[];
  readonly drop: readonly string[];
  readonly leeching: readonly string[];
  /** 16 hex digits, see {@link SwarmTable}. */
  readonly setHash: string;
}

/**
 * Who has what: node leases and the seeds and leechers of each blob. No step takes longer the more nodes or blobs there
 * are, but {@link SwarmTable.expire}. Pure; time, chance and the hash of a digest are passed in.
 */
export class SwarmTable {
  readonly #nodes = new Map<string, Node>();
  readonly #blobs = new Map<string, Blob>();
  readonly #blobOf: Blob[] = [];
  readonly #freeIds: number[] = [];
  readonly #twins = new Twins();
  readonly #chance: Chance;
  readonly #hashOf: (digest: string) => bigint;

  /** `hashOf`: what a digest brings to the hash of a set, as `digestHash` of `@sepia/cluster/api/set-hash`. */
  constructor(chance: Chance, hashOf: (digest: string) => bigint) {
    this.#chance = chance;
    this.#hashOf = hashOf;
  }

  get nodeCount(): number {
    return this.#nodes.size;
  }

  /**
   * A heartbeat. Answers `resync`, and forgets the node's set, when that is not the one known here (restart of either
   * side, a lost message): the node then sends its full set. An older `seq` of the same boot changes nothing. `twin`: where
   * another process is that bears the same id, '' where it does not say.
   */
  renew(renewal: Renewal, nowMs: number): { resync: boolean; refused: boolean; twin?: string } {
    let node = this.#nodes.get(renewal.nodeId);
    if (node === undefined && this.#nodes.size >= MAX_NODES) return { resync: false, refused: true };
    if (node !== undefined && node.bootId === renewal.bootId && renewal.seq < node.seq)
      return { resync: false, refused: false };
    if (node !== undefined && node.bootId !== renewal.bootId) {
      this.#noteChange(node, renewal, nowMs);
      this.forget(renewal.nodeId);
      node = undefined;
    }
    node ??= this.#create(renewal, renewal.bootId);
    tell(node, renewal);
    node.seq = renewal.seq;
    node.heardAtMs = nowMs;
    node.expiresAtMs = nowMs + renewal.ttlMs;
    for (const digest of renewal.drop) this.#dropSeed(node, digest);
    for (const digest of renewal.add) this.#addSeed(node, digest);
    const leeching = new Set(renewal.leeching);
    for (const blob of node.leeching) if (!leeching.has(blob.digest)) this.#dropLeecher(node, blob);
    for (const digest of leeching) this.#addLeecher(node, digest);
    const other = this.#twins.of(renewal.nodeId, nowMs);
    const twin = other === undefined ? {} : { twin: other.address ?? '' };
    if (node.setHash === BigInt(`0x${renewal.setHash}`)) return { resync: false, refused: false, ...twin };
    // What it will send is the whole: what is known here beside that would ask for it again, for ever.
    this.#dropSeeds(node);
    return { resync: true, refused: false, ...twin };
  }

  /** A join outside the heartbeat. `ttlMs` applies if the node has no lease yet. */
  join(facts: NodeFacts, digest: string, leeching: boolean, ttlMs: number, nowMs: number): void {
    let node = this.#nodes.get(facts.nodeId);
    if (node === undefined) {
      if (this.#nodes.size >= MAX_NODES) return;
      node = this.#create(facts, '');
      node.expiresAtMs = nowMs + ttlMs;
    }
    tell(node, facts);
    node.heardAtMs = nowMs;
    node.expiresAtMs = Math.max(node.expiresAtMs, nowMs + ttlMs);
    if (leeching) this.#addLeecher(node, digest);
    else {
      this.#addSeed(node, digest);
      this.#dropLeecher(node, this.#blob(digest));
    }
  }

  /**
   * At most `numwant` peers for a blob, never the asker: leechers and seeds in random order, those of the asker's
   * zone first but never only those.
   */
  handout(digest: string, asker: NodeFacts, numwant: number): Handout[] {
    const blob = this.#blobs.get(digest);
    if (blob === undefined) return [];
    // Where a zone is preferred there is to be a choice; the asker itself may be drawn.
    const take = asker.zone === undefined ? numwant + 1 : numwant * 2;
    const next = drawFrom(
      this.#deck(blob.leechers, 'leecher', take),
      this.#deck(blob.seeds, 'seed', take),
      this.#chance,
    );
    const isOther = ({ nodeId, addresses }: Handout): boolean =>
      nodeId !== asker.nodeId && addresses.length > 0;
    const nextOther = (): Handout | undefined => {
      for (let one = next(); ; one = next()) if (one === undefined || isOther(one)) return one;
    };
    return firstOf(nextOther, asker.zone, numwant);
  }

  #deck(lot: Lot<Node>, reason: Handout['reason'], most: number): Deck<Handout> {
    const next = lot.drawing(this.#chance);
    const draw = (): Handout | undefined => {
      const node = next();
      return node && toldOf(node, reason);
    };
    return { count: Math.min(lot.size, most), draw };
  }

  /** Nodes that hold pieces of an open attempt, for a leader that takes over. */
  holders(digest: string, numwant: number): Handout[] {
    return this.handout(digest, { nodeId: '', addresses: [] }, numwant);
  }

  /** True if the node seeds or downloads the blob. */
  isIn(digest: string, nodeId: string): boolean {
    const [blob, node] = [this.#blobs.get(digest), this.#nodes.get(nodeId)];
    if (blob === undefined || node === undefined) return false;
    return blob.seeds.has(node) || blob.leechers.has(node);
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
    this.#dropSeeds(node);
    for (const blob of node.leeching) this.#dropLeecher(node, blob);
    this.#nodes.delete(nodeId);
  }

  /** Drops every lease that has run out; returns the ids. */
  expire(nowMs: number): string[] {
    const gone: string[] = [];
    for (const [id, node] of this.#nodes) if (node.expiresAtMs <= nowMs) gone.push(id);
    for (const id of gone) this.forget(id);
    return gone;
  }

  #noteChange({ bootId, facts }: Node, { nodeId, bootId: next, ttlMs }: Renewal, nowMs: number): void {
    // One that joined before its first heartbeat is nobody else.
    if (bootId === '') return;
    this.#twins.changed(nodeId, { bootId, address: facts.addresses[0] }, next, nowMs, 2 * ttlMs);
  }

  #create(facts: NodeFacts, bootId: string): Node {
    const node: Node = {
      facts: { nodeId: facts.nodeId, addresses: facts.addresses, zone: facts.zone },
      told: {},
      bootId,
      seq: -1,
      heardAtMs: 0,
      expiresAtMs: 0,
      setHash: 0n,
      seeds: new IdSet(),
      leeching: new Set(),
    };
    this.#nodes.set(facts.nodeId, node);
    return node;
  }

  #blob(digest: string): Blob {
    let blob = this.#blobs.get(digest);
    if (blob === undefined) {
      const id = this.#freeIds.pop() ?? this.#blobOf.length;
      blob = { id, digest, hash: this.#hashOf(digest), holders: 0, seeds: new Lot(), leechers: new Lot() };
      this.#blobs.set(digest, blob);
      this.#blobOf[id] = blob;
    }
    return blob;
  }

  #addSeed(node: Node, digest: string): void {
    const blob = this.#blob(digest);
    if (node.seeds.add(blob.id)) {
      node.setHash ^= blob.hash;
      blob.holders += 1;
    }
    if (blob.seeds.has(node)) return;
    if (blob.seeds.size >= MAX_SEEDS_PER_BLOB) blob.seeds.delete(blob.seeds.draw(1, this.#chance)[0]!);
    blob.seeds.add(node);
  }

  #dropSeed(node: Node, digest: string): void {
    const blob = this.#blobs.get(digest);
    if (blob !== undefined) this.#dropSeedOf(node, blob);
  }

  #dropSeeds(node: Node): void {
    for (const id of node.seeds.values()) this.#dropSeedOf(node, this.#blobOf[id]!);
  }

  #dropSeedOf(node: Node, blob: Blob): void {
    if (!node.seeds.delete(blob.id)) return;
    node.setHash ^= blob.hash;
    blob.holders -= 1;
    blob.seeds.delete(node);
    this.#tidy(blob);
  }

  #addLeecher(node: Node, digest: string): void {
    const blob = this.#blob(digest);
    node.leeching.add(blob);
    blob.leechers.add(node);
  }

  #dropLeecher(node: Node, blob: Blob): void {
    node.leeching.delete(blob);
    blob.leechers.delete(node);
    this.#tidy(blob);
  }

  #tidy(blob: Blob): void {
    if (blob.holders > 0 || blob.leechers.size > 0 || !this.#blobs.delete(blob.digest)) return;
    this.#freeIds.push(blob.id);
  }
}

/** Where nothing has changed what is known stays: what a message brought is then garbage at once, and never becomes old. */
function tell(node: Node, { nodeId, addresses, zone }: NodeFacts): void {
  const known = node.facts;
  const isSame =
    known.zone === zone &&
    known.addresses.length === addresses.length &&
    known.addresses.every((address, at) => address === addresses[at]);
  if (isSame) return;
  node.facts = { nodeId, addresses, zone };
  node.told = {};
}

function toldOf({ facts, told }: Node, reason: Handout['reason']): Handout {
  let known = told[reason];
  if (known === undefined) {
    const { nodeId, addresses, zone } = facts;
    known = { nodeId, addresses, zone, reason };
    told[reason] = known;
  }
  return known;
}
