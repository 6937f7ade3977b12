import { CodedError } from '@sepia/base/errors';
import type { NamedUpstream } from '@sepia/base/names/upstream-name';
import type { ClusterDocument, Member, MemberRole, Upstream } from './document.ts';
import { type Ownership, ownersOf, type Shard } from './ring.ts';

/** An upstream with every `ns` value it answers to. */
export type ClusterUpstream = Upstream & NamedUpstream;

/** Read-only view of the cluster document: who owns what, which upstreams there are. */
export class Cluster {
  readonly document: ClusterDocument;
  readonly upstreams: readonly ClusterUpstream[];
  readonly #members: ReadonlyMap<string, Member>;

  constructor(document: ClusterDocument) {
    this.document = document;
    this.#members = new Map(document.members.map((member) => [member.id, member]));
    const proxyHosts = document.members
      .filter((member) => member.role === 'proxy')
      .flatMap((member) => member.urls.map(hostOf));
    this.upstreams = document.upstreams.map((upstream, index) => ({
      ...upstream,
      hosts: [
        ...new Set([
          upstream.name,
          ...(upstream.url === undefined ? [] : [hostOf(upstream.url)]),
          ...upstream.hosts,
          ...(index === 0 ? proxyHosts : []),
        ]),
      ],
    }));
  }

  get version(): number {
    return this.document.version;
  }

  get defaultUpstream(): string {
    return this.upstreams[0]!.name;
  }

  members(role: MemberRole): Member[] {
    return this.document.members.filter((member) => member.role === role);
  }

  /** @throws {CodedError} `INTERNAL` if no member has this id */
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

  /** True where Sepia is the source of truth, so that content can be deleted here; false for an unknown name. */
  takesDeletes(upstream: string): boolean {
    return this.upstreams.find((one) => one.name === upstream)?.mode === 'none';
  }

  /** Origins for a digest or a shard key, from the configured membership. */
  origins(key: string): Ownership {
    return ownersOf(key, this.members('origin'));
  }

  /** Who decides about a digest or a shard key. */
  shard(key: string): Shard {
    return { epoch: 0, sets: [this.origins(key).owners] };
  }

  /** Trackers for a digest, in order. */
  trackers(digest: string): Member[] {
    return ownersOf(digest, this.members('tracker')).order.map((id) => this.member(id));
  }
}

/**
 * What the ring places the records of a repository by: its tags, links and referrers live together. These bytes are for
 * ever, like those of keys on disk (`repositoryOnDisk`), which are others.
 */
export function shardKey(upstream: string, repository: string): string {
  return `${upstream}\n${repository}`;
}

function hostOf(url: string): string {
  return new URL(url).host;
}
