import { joinFields } from '../core/join.ts';
import type { OnRecord } from '../on-record.ts';
import { AcceptorStore } from '../register/acceptor-store.ts';
import { type Put, type RecordEntry, type RecordPage, RecordSet } from '../set/record-set.ts';
import type { OnForeign, RecordTable } from '../table/record-table.ts';
import { Floors } from './floors.ts';
import { RecordDump } from './record-dump.ts';

/** What a link (upstream, repository) → digest knows of the blob. */
export interface Link {
  readonly sizeBytes?: number;
  readonly mediaType?: string;
  /** A push or mount made it, where another registry has a say too. */
  readonly pushed?: boolean;
}

/** A tag's place in the index of its repository; its value is in its register. */
export interface TagEntry {
  readonly atMs: number;
}

/** A manifest that names another as its subject, as lists of referrers tell of it. */
export interface Referrer {
  readonly artifactType?: string;
  readonly mediaType: string;
  readonly sizeBytes: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A pushed blob of this origin. */
export interface StoredBlob {
  readonly sizeBytes: number;
}

/**
 * The records of one origin, or of all that share a table. What is returned as stored survives a power loss.
 * Replication and quorums are the caller's: every entry merges by its clock, see {@link RecordSet}.
 */
export class RecordStore {
  /** Registers (tags and other compare-and-set values). */
  readonly registers: AcceptorStore;
  /** Registers that all origins keep: the memberships, by epoch. */
  readonly agreements: AcceptorStore;
  /** Of repositories: up to where tombstones of links, referrers and public marks are gone. */
  readonly floors: Floors;
  /** (upstream, repository, digest). */
  readonly linkSet: RecordSet<Link>;
  /** (upstream, repository, tag). */
  readonly tagSet: RecordSet<TagEntry>;
  /** (upstream, repository). */
  readonly repositorySet: RecordSet<{ readonly atMs: number }>;
  /** (upstream, repository, subject digest, referrer digest). */
  readonly referrerSet: RecordSet<Referrer>;
  /** (upstream, repository, mark): when everybody could read it. */
  readonly publicSet: RecordSet<{ readonly checkedAtMs: number }>;
  /** (queue, job id): what waits for another side. */
  readonly jobSet: RecordSet<unknown>;
  /** Everything as it is on the disk, for backups. */
  readonly dump: RecordDump;
  /** (digest): blobs that were pushed and are here; made from the sidecars where it is lost. */
  readonly blobSet: RecordSet<StoredBlob>;
  /** (digest): pushed blobs that this origin still has to get, and from whom. */
  readonly wantedSet: RecordSet<{ readonly from: string }>;
  /** (member, space, key): entries of other sets that this origin has and the member lacks, during a handover. */
  readonly aloneSet: RecordSet<object>;
  readonly #table: RecordTable;
  readonly #listeners = new Set<OnRecord>();

  constructor(deps: { readonly table: RecordTable }) {
    const { table } = deps;
    this.#table = table;
    const onRecord: OnRecord = (...change) => {
      for (const listener of this.#listeners) listener(...change);
    };
    const parts = { table, onRecord };
    this.floors = new Floors(parts);
    const above = { ...parts, floors: this.floors };
    this.registers = new AcceptorStore(parts);
    this.agreements = new AcceptorStore(parts, 'e1');
    this.linkSet = new RecordSet(above, 'l1', joinFields);
    this.blobSet = new RecordSet(parts, 'b1');
    this.wantedSet = new RecordSet(parts, 'w1');
    this.aloneSet = new RecordSet(parts, 'a1');
    this.tagSet = new RecordSet(parts, 't1');
    this.repositorySet = new RecordSet(parts, 'n1');
    this.referrerSet = new RecordSet(above, 'f1');
    this.publicSet = new RecordSet(above, 'p1');
    this.jobSet = new RecordSet(parts, 'j1');
    this.dump = new RecordDump({
      table,
      sets: {
        l1: this.linkSet,
        t1: this.tagSet,
        n1: this.repositorySet,
        f1: this.referrerSet,
        j1: this.jobSet,
      },
    });
  }

  /** True where all origins write to one table. */
  get isShared(): boolean {
    return this.#table.isShared;
  }

  /** Calls `listener` for every record that changed here, once it is durable. */
  onRecord(listener: OnRecord): void {
    this.#listeners.add(listener);
  }

  /** Resolves when listeners have heard of all that was changed here and is in the table now. */
  async told(): Promise<void> {
    await this.#table.told();
  }

  /** Calls `listener` with the key of what another member wrote to a shared table; undefined: some may be missed. */
  onForeign(listener: OnForeign): void {
    this.#table.onForeign(listener);
  }

  /** Takes over a link or its tombstone and notes the repository; false if it says nothing new. */
  async mergeLink(entry: RecordEntry<Link>): Promise<boolean> {
    const [isNews = false] = await this.mergeLinks([entry]);
    return isNews;
  }

  /** As {@link mergeLink} for several of one or more repositories; the caller bounds how many. `theirsMs`: their owner's floor. */
  async mergeLinks(entries: readonly RecordEntry<Link>[], theirsMs?: number): Promise<boolean[]> {
    return await this.#noting(entries, async () => await this.linkSet.mergeAll(entries, theirsMs));
  }

  /** Takes writes of links, as {@link RecordSet.putAll}. */
  async putLinks(entries: readonly RecordEntry<Link>[]): Promise<Put[]> {
    return await this.#noting(entries, async () => await this.linkSet.putAll(entries));
  }

  /** Runs `work` on links and notes their repositories beside it. */
  async #noting<A>(entries: readonly RecordEntry<Link>[], work: () => Promise<A>): Promise<A> {
    const repositories = new Map<string, RecordEntry<Link>>();
    for (const entry of entries) {
      const [upstream = '', repository = ''] = entry.key;
      if (entry.value !== undefined) repositories.set(repositoryOnDisk(upstream, repository), entry);
    }
    const [done] = await Promise.all([
      work(),
      ...[...repositories.values()].map(async ({ key: [upstream = '', repository = ''], atMs }) => {
        await this.#noteRepository(upstream, repository, atMs);
      }),
    ]);
    return done;
  }

  /** Repositories of an upstream in byte order. */
  async repositories(upstream: string, page?: RecordPage): Promise<string[]> {
    const found: string[] = [];
    for await (const { key } of this.repositorySet.list([upstream], page)) found.push(key[1]!);
    return found;
  }

  /** Resolves when nothing is being written; the table stays open (who opened it closes it). */
  async close(): Promise<void> {
    await this.#table.idle();
  }

  async #noteRepository(upstream: string, repository: string, atMs: number): Promise<void> {
    if (await this.repositorySet.has([upstream, repository])) return;
    await this.repositorySet.put([upstream, repository], { atMs }, atMs);
  }
}

/** The register key of a tag; also names its shard's (upstream, repository). */
export function tagKey(upstream: string, repository: string, tag: string): string {
  return `tag\0${repositoryOnDisk(upstream, repository)}\0${tag}`;
}

/**
 * How a repository is written in keys of the database. The ring places it by other bytes, `shardKey`; both are for ever:
 * other bytes here would lose every tag, other bytes there would re-place them.
 */
export function repositoryOnDisk(upstream: string, repository: string): string {
  return `${upstream}/${repository}`;
}
