import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { type Digest, isDigest } from '@sepia/base/digest';
import type { Logger } from '@sepia/base/log';
import type { RecordSet } from '@sepia/records/set/record-set';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Database } from '@sepia/store/data-folder';
import { ASK_NEXT_MS } from '../deadlines/members.ts';

/** In the database once every blob of the folder was looked at. */
const BUILT_KEY = 'm1\0blobs';
const TURN = 200;

interface BlobIndexDeps {
  readonly db: Database;
  readonly records: RecordStore;
  readonly log: Logger;
}

/**
 * Which pushed blobs this origin has (compared with the other owners), and which of theirs it still has to get. Made
 * from the sidecars where it is lost. An entry is the same at every owner: it has no clock.
 */
export class BlobIndex {
  readonly #deps: BlobIndexDeps;
  readonly #wanted: RecordSet<{ readonly from: string }>;
  readonly #locks = new KeyedLocks<Digest>();
  #wantedCount = 0;
  readonly #listeners = new Set<(digest: Digest, sizeBytes: number) => void>();
  readonly #lostListeners = new Set<() => void>();
  /** When another origin was asked for a wanted blob last, and which. */
  readonly #asked = new Map<string, { readonly from: string; readonly atMs: number }>();

  private constructor(deps: BlobIndexDeps) {
    this.#deps = deps;
    this.#wanted = deps.records.wantedSet;
  }

  static async open(deps: BlobIndexDeps): Promise<BlobIndex> {
    const index = new BlobIndex(deps);
    for await (const _ of index.#wanted.list([])) index.#wantedCount += 1;
    return index;
  }

  /** Blobs that this origin still has to get. */
  get wanted(): number {
    return this.#wantedCount;
  }

  /** True while an acknowledged blob is on its way here: "not here" would be wrong. */
  async isWanted(digest: Digest): Promise<boolean> {
    return this.#wantedCount > 0 && (await this.#wanted.has([digest]));
  }

  /** A pushed blob is durable here. */
  async added(digest: Digest, sizeBytes: number): Promise<void> {
    await this.#deps.records.blobSet.put([digest], { sizeBytes }, 0);
    for (const listener of this.#listeners) listener(digest, sizeBytes);
    await this.#unwant(digest);
  }

  /** Calls `listener` when a pushed blob is durable here, also for one that was before. */
  onAdded(listener: (digest: Digest, sizeBytes: number) => void): void {
    this.#listeners.add(listener);
  }

  /** The first wanted blobs in order of their digests, from behind `after`. */
  async listWanted(after: string | undefined, limit: number): Promise<string[]> {
    const found: string[] = [];
    const page = after === undefined ? { limit } : { after, limit };
    for await (const { key } of this.#wanted.list([], page)) found.push(key[0]!);
    return found;
  }

  /** No owner has the blob any more: it is not wanted any longer. */
  async giveUp(digest: string): Promise<void> {
    if (isDigest(digest)) await this.#unwant(digest);
  }

  async removed(digest: Digest): Promise<void> {
    await this.#deps.records.blobSet.remove([digest]);
  }

  /** Takes out what was seen as a cached blob; looks once more behind that, for it may have been pushed meanwhile. */
  async unlist(store: Pick<BlobStore, 'stat'>, digest: Digest): Promise<void> {
    await this.removed(digest);
    const stat = await store.stat(digest);
    if (stat?.attrs.class === 'pushed') await this.added(digest, stat.sizeBytes);
  }

  /** Pushed blobs that are here, by the index, in order, from behind `first`. */
  async *list(first?: Digest): AsyncGenerator<Digest, void, void> {
    for (let after: { after?: string } = first === undefined ? {} : { after: first }; ; ) {
      const keys: string[] = [];
      for await (const { key } of this.#deps.records.blobSet.list([], { ...after, limit: TURN }))
        keys.push(key[0]!);
      for (const key of keys) if (isDigest(key)) yield key;
      if (keys.length < TURN) return;
      after = { after: keys.at(-1)! };
    }
  }

  /** A pushed blob is missing on disk or damaged: takes it out of the index, and wants it from the other owners. */
  async lost(digest: Digest): Promise<void> {
    if (!(await this.#deps.records.blobSet.has([digest]))) return;
    this.#deps.log.error({ digest }, 'a pushed blob is gone from the disk: its copy is made again');
    await this.#lose(digest);
  }

  async #lose(digest: Digest): Promise<void> {
    // In this order: whatever a kill leaves, it is asked for.
    await this.#want(digest, '');
    await this.removed(digest);
    for (const listener of this.#lostListeners) listener();
  }

  /** Calls `listener` when a pushed blob is found to be lost, and wanted. */
  onLost(listener: () => void): void {
    this.#lostListeners.add(listener);
  }

  /** Looks again for a blob that was not found here: if it should be and is not, it is {@link lost}. */
  async missed(store: BlobStore, digest: Digest): Promise<void> {
    if (!(await this.#isMissing(store, digest))) return;
    await this.lost(digest);
    // It may have come since it was looked for.
    await this.noteHere(store, digest);
  }

  /**
   * After a start: takes every indexed blob without a file as {@link lost}, without a log line for each. @returns how many
   * are lost
   */
  async findLost(store: BlobStore, signal: AbortSignal): Promise<number> {
    let lost = 0;
    for await (const digest of store.unlisted(this.list())) {
      if (signal.aborted) break;
      if (!(await this.#isMissing(store, digest))) continue;
      await this.#lose(digest);
      if (!(await this.noteHere(store, digest))) lost += 1;
    }
    return lost;
  }

  async #isMissing(store: BlobStore, digest: Digest): Promise<boolean> {
    const isExpected = await this.#deps.records.blobSet.has([digest]);
    return isExpected && (await store.stat(digest)) === undefined;
  }

  /**
   * Notes a pushed blob as here, and wanted no more, if it is; false if it is not. A kill, or a database that lost its
   * end, may leave one wanted that came: nobody would bring it again.
   */
  async noteHere(store: BlobStore, digest: string): Promise<boolean> {
    if (!isDigest(digest)) return false;
    const stat = await store.stat(digest);
    if (stat === undefined) return false;
    // A cached copy may be evicted up to this moment; then it is not here.
    if (
      stat.attrs.class !== 'pushed' &&
      (await store.setAttrs(digest, { class: 'pushed', writtenBack: false })) === undefined
    )
      return false;
    await this.added(digest, stat.sizeBytes);
    return true;
  }

  /** Another owner has a pushed blob. Notes it as here if it is, else as wanted. True if `from` must send it. */
  async take(store: BlobStore, digest: string, from: string): Promise<boolean> {
    if (!isDigest(digest)) return false;
    if (await this.noteHere(store, digest)) return false;
    // It may have come since it was looked for: who brought it did not see then that it was wanted.
    if ((await this.#want(digest, from)) && (await this.noteHere(store, digest))) return false;
    const nowMs = performance.now();
    const asked = this.#asked.get(digest);
    // One of them is enough; if it does not bring it, the next one is asked.
    if (asked !== undefined && asked.from !== from && nowMs - asked.atMs < ASK_NEXT_MS) return false;
    this.#asked.set(digest, { from, atMs: nowMs });
    return true;
  }

  /** False if it was wanted already: two comparisons may find it at once. */
  async #want(digest: Digest, from: string): Promise<boolean> {
    return await this.#locks.run(digest, async () => {
      if (await this.isWanted(digest)) return false;
      await this.#wanted.put([digest], { from }, 0);
      this.#wantedCount += 1;
      return true;
    });
  }

  async #unwant(digest: Digest): Promise<void> {
    await this.#locks.run(digest, async () => {
      if (!(await this.isWanted(digest))) return;
      await this.#wanted.remove([digest]);
      this.#asked.delete(digest);
      this.#wantedCount -= 1;
    });
  }

  /** Behind the first start with this folder or a new database: looks at every blob once. */
  async build(store: BlobStore, signal: AbortSignal): Promise<void> {
    const { db, log } = this.#deps;
    if ((await db.get(BUILT_KEY)) !== undefined) return;
    let count = 0;
    let seen = 0;
    for await (const { digest } of store.list()) {
      if (signal.aborted) return;
      const stat = await store.stat(digest);
      if (stat?.attrs.class === 'pushed') {
        await this.added(digest, stat.sizeBytes);
        count += 1;
      }
      seen += 1;
      if (seen % TURN === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await db.put(BUILT_KEY, '1');
    if (count > 0) log.info({ blobs: count }, 'pushed blobs counted');
  }
}
