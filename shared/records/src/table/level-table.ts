import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { ignoreFailure } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import { forgetsAtRest } from '@sepia/base/memory/at-rest';
import type { Database } from '@sepia/store/data-folder';
import type { DatabaseWrite } from '@sepia/store/level-database';
import { GroupCommit } from './group-commit.ts';
import type { KeyRange, RecordTable, TableStep } from './record-table.ts';

/** Keys of which the value is at hand: those written last, for most are read again at once (a promise by its accept, a link by its manifest). */
const KEPT_KEYS = 2_000;
/** Longer values are read from the database. */
const KEPT_CHARS = 2_000;

/** The embedded engine: the database of an origin's own data folder, which no other member writes to. */
export class LevelTable implements RecordTable {
  readonly isShared = false;
  readonly #db: Database;
  readonly #commits: GroupCommit;
  readonly #locks = new KeyedLocks<string>();
  /** As the database has it durably; undefined: it has none. */
  readonly #kept = new LatestMap<string, string | undefined>(KEPT_KEYS);

  constructor(deps: { readonly db: Database }) {
    this.#db = deps.db;
    this.#commits = new GroupCommit(deps);
    forgetsAtRest(this);
  }

  forgetAll(): void {
    this.#kept.clear();
  }

  async get(key: string): Promise<string | undefined> {
    return this.#kept.has(key) ? this.#kept.get(key) : await this.#db.get(key);
  }

  async getMany(keys: readonly string[]): Promise<(string | undefined)[]> {
    if (keys.every((key) => this.#kept.has(key))) return keys.map((key) => this.#kept.get(key));
    return await this.#db.getMany([...keys]);
  }

  async change<A>(
    keys: readonly string[],
    step: (found: readonly (string | undefined)[]) => TableStep<A>,
    beside: readonly string[] = [],
  ): Promise<A> {
    const read = [...keys, ...beside];
    const make = async (): Promise<A> => {
      const found = read.length === 1 ? [await this.get(read[0]!)] : await this.getMany(read);
      const { writes, answer, onDurable } = step(found);
      if (writes.length > 0) await this.#write(writes);
      onDurable?.();
      return answer;
    };
    return await (keys.length === 1 ? this.#locks.run(keys[0]!, make) : this.#locks.runAll(keys, make));
  }

  async #write(writes: readonly DatabaseWrite[]): Promise<void> {
    try {
      await this.#commits.write(...writes);
    } catch (error) {
      // It may be there or not: the database says.
      for (const { key } of writes) this.#kept.delete(key);
      throw error;
    }
    for (const one of writes) {
      const value = one.type === 'put' ? one.value : undefined;
      if ((value?.length ?? 0) <= KEPT_CHARS) this.#kept.set(one.key, value);
      else this.#kept.delete(one.key);
    }
  }

  entries(range: KeyRange): AsyncIterable<readonly [key: string, text: string]> {
    return this.#db.iterator(range);
  }

  keys(range: KeyRange): AsyncIterable<string> {
    return this.#db.keys(range);
  }

  onForeign(): void {}

  async told(): Promise<void> {
    // Writes end in order, and who made one tells of it as soon as it has ended. What failed is not in the database.
    await this.#commits.write().catch(ignoreFailure);
  }

  async idle(): Promise<void> {
    await this.#locks.allIdle();
    await this.#commits.idle();
  }
}
