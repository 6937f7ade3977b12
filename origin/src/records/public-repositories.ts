import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { digestOf } from '@sepia/base/digest';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { shardKey } from '@sepia/cluster/cluster';
import { PUBLIC_WRITE_MS } from '../deadlines/upstreams.ts';
import type { ShardName } from './own-records.ts';
import type { QuorumSet } from './quorum-set.ts';

const MAX_NOTED = 20_000;
/** The one record of a repository; keys of records are digests. */
const KEY = [digestOf(Buffer.from('sepia-public-1'))];

/** When the upstream last let everybody read a repository. */
export interface PublicRecord {
  readonly checkedAtMs: number;
}

interface PublicDeps {
  readonly set: QuorumSet<PublicRecord>;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
}

/** Which repositories were public, on record at their owners: it outlives origins while an upstream does not answer. */
export class PublicRepositories {
  readonly #deps: PublicDeps;
  readonly #written = new ExpiringMap<'public' | 'private'>(MAX_NOTED);
  readonly #writes = new KeyedLocks<string>();

  constructor(deps: PublicDeps) {
    this.#deps = deps;
  }

  /** Everybody may read it now; written behind, every few minutes. */
  note(name: ShardName): void {
    this.#write(name, 'public', { checkedAtMs: this.#deps.dateMs() });
  }

  /** Not everybody may read it any more; only what was public is written. */
  async forget(name: ShardName): Promise<void> {
    const key = shardKey(name.upstream, name.repository);
    // What is not on record yet would be so after the look.
    await this.#writes.idle(key);
    const recorded = await this.recall(name);
    if (recorded === undefined) return;
    // Another origin noted it since this one had it forgotten.
    if (recorded !== 'unreadable') this.#written.delete(key);
    this.#write(name, 'private', undefined);
  }

  /** When it was last known to be public; undefined where that is not on record. */
  async recall(name: ShardName): Promise<number | 'unreadable' | undefined> {
    try {
      return (await this.#deps.set.read(name, KEY))?.value?.checkedAtMs;
    } catch (error) {
      throwIfBug(error);
      return 'unreadable';
    }
  }

  #write(name: ShardName, what: 'public' | 'private', value: PublicRecord | undefined): void {
    const { set, log, nowMs } = this.#deps;
    const key = shardKey(name.upstream, name.repository);
    if (this.#written.get(key, nowMs()) === what) return;
    this.#written.set(key, what, nowMs() + PUBLIC_WRITE_MS);
    const shard = { upstream: name.upstream, repository: name.repository };
    const write = async (): Promise<void> => await set.write(shard, [{ key: KEY, value }]);
    this.#writes.run(key, write).catch((error: unknown) => {
      this.#written.delete(key);
      logFailure(log, error, 'who may read a repository is not on record', { ...shard, what });
    });
  }
}
