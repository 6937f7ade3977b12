import { CodedError } from '@sepia/base/errors';
import { LatestMap } from '@sepia/base/latest-map';
import type { NamedUpstream } from '@sepia/base/names/upstream-name';
import { type ClusterDocument, hostsOf, type Member, type MemberRole, type Upstream } from './document.ts';
import { foundingMembership, type Membership, ownershipOf, owningIds, shardOf } from './membership.ts';
import { type Ownership, ownersOf, type Shard } from './ring.ts';
import { takesPushes } from './write-back.ts';

/** An upstream of the cluster document, with every `ns` value that it answers to. */
export type ClusterUpstream = Upstream & NamedUpstream;

/** Keys of which is remembered who keeps them, for what is done with one asks several times. */
const PLACED_KEYS = 256;

/**
 * The cluster as its document names it: upstreams, policies, trackers, proxies. Which origins there are and who owns what
 * says the membership that the origins agreed on; before one is known, the document.
 */
export class Cluster {
  /** What the file says. */
  readonly file: ClusterDocument;
  readonly upstreams: readonly ClusterUpstream[];
  #membership: Membership;
  #isAgreed = false;
  #document: ClusterDocument;
  #members: ReadonlyMap<string, Member>;
  #furtherUrls: ReadonlyMap<string, readonly string[]>;
  readonly #listeners = new Set<() => void>();
  /** By the membership. */
  readonly #origins = new LatestMap<string, Ownership>(PLACED_KEYS);
  readonly #shards = new LatestMap<string, Shard>(PLACED_KEYS);

  constructor(document: ClusterDocument) {
    this.file = document;
    this.#membership = foundingMembership(document);
    this.#document = document;
    this.#members = new Map(document.members.map((member) => [member.id, member]));
    this.#furtherUrls = furtherUrlsOf(document.members);
    const named = hostsOf(document);
    this.upstreams = document.upstreams.map((upstream, index) => ({
      ...upstream,
      hosts: named[index]!.hosts,
    }));
  }

  /** The file's document with the origins of the membership; those of a change under way too. */
  get document(): ClusterDocument {
    return this.#document;
  }

  get membership(): Membership {
    return this.#membership;
  }

  /** The membership that was followed last; undefined where only the file is known. */
  get agreed(): Membership | undefined {
    return this.#isAgreed ? this.#membership : undefined;
  }

  /** Of the membership. */
  get epoch(): number {
    return this.#membership.epoch;
  }

  /** Follows the membership of the origins; where the file names a member, its addresses are the file's. */
  follow(membership: Membership): void {
    this.#membership = membership;
    this.#origins.clear();
    this.#shards.clear();
    this.#isAgreed = true;
    const kept = [...membership.origins, ...(membership.before ?? [])];
    const origins = new Map<string, Member>();
    for (const member of kept) if (!origins.has(member.id)) origins.set(member.id, this.#addressed(member));
    const others = this.file.members.filter(({ role }) => role !== 'origin');
    this.#document = { ...this.file, members: [...origins.values(), ...others] };
    this.#members = new Map(this.#document.members.map((member) => [member.id, member]));
    this.#furtherUrls = furtherUrlsOf(this.#document.members);
    for (const listener of this.#listeners) listener();
  }

  /** Calls `listener` after each change of the membership. */
  onFollow(listener: () => void): void {
    this.#listeners.add(listener);
  }

  get version(): number {
    return this.file.version;
  }

  /** Ids of the origins that own keys: in a ring change the old and the new ones. */
  get owningIds(): string[] {
    return owningIds(this.#membership);
  }

  get defaultUpstream(): string {
    return this.upstreams[0]!.name;
  }

  members(role: MemberRole): Member[] {
    return this.#document.members.filter((member) => member.role === role);
  }

  /** @throws {CodedError} `PEER_HTTP` if no member has this id */
  member(id: string): Member {
    const found = this.#members.get(id);
    if (found === undefined)
      throw new CodedError('PEER_HTTP', {
        message: `no member ${id} in the cluster document`,
        detail: { id },
      });
    return found;
  }

  findMember(id: string): Member | undefined {
    return this.#members.get(id);
  }

  /** @throws {CodedError} `UPSTREAM_UNKNOWN` */
  upstream(name: string): ClusterUpstream {
    const found = this.upstreams.find((one) => one.name === name);
    if (found === undefined) throw new CodedError('UPSTREAM_UNKNOWN', { detail: { upstream: name } });
    return found;
  }

  /** True where content is pushed and deleted here, so that a link may go; false for an unknown name. */
  takesDeletes(upstream: string): boolean {
    const found = this.upstreams.find((one) => one.name === upstream);
    return found !== undefined && takesPushes(found.mode);
  }

  /** Where else the member may be dialled whose first address has this origin, in order. */
  furtherUrls(origin: string): readonly string[] {
    return this.#furtherUrls.get(origin) ?? [];
  }

  /** Origins for a digest or a shard key; in a ring change the old and the new ones. */
  origins(key: string): Ownership {
    const found = this.#origins.get(key) ?? ownershipOf(key, this.#membership);
    this.#origins.set(key, found);
    return found;
  }

  /** Who decides about a digest or a shard key. */
  shard(key: string): Shard {
    const found = this.#shards.get(key) ?? shardOf(key, this.#membership);
    this.#shards.set(key, found);
    return found;
  }

  /** Trackers for a digest, in order. */
  trackers(digest: string): Member[] {
    return ownersOf(digest, this.members('tracker')).order.map((id) => this.member(id));
  }

  #addressed(member: Member): Member {
    const own = this.file.members.find(({ id, role }) => id === member.id && role === 'origin');
    if (own === undefined) return member;
    const { urls, peers, zone } = own;
    return { ...member, urls, peers, ...(zone === undefined ? {} : { zone }) };
  }
}

/**
 * What the ring places the records of a repository by: its tags, links and referrers live together. These bytes are for
 * ever, like those of keys on disk (`repositoryOnDisk`), which are others.
 */
export function shardKey(upstream: string, repository: string): string {
  return `${upstream}\n${repository}`;
}

function furtherUrlsOf(members: readonly Member[]): Map<string, readonly string[]> {
  const several = members.filter(({ urls }) => urls.length > 1);
  return new Map(several.map(({ urls: [first, ...further] }) => [new URL(first!).origin, further]));
}
