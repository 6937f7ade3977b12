import { setImmediate } from 'node:timers/promises';
import type { Database } from '@sepia/store/data-folder';
import type { DatabaseWrite } from '@sepia/store/level-database';

interface Waiting {
  readonly writes: readonly DatabaseWrite[];
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/** Most writes that one synced batch takes. */
const BATCH_WRITES = 1024;

/**
 * Synced writes to a database: those of one turn of the event loop go together, and all that wait while one batch is synced
 * in the next. Level's synced puts each hold a thread of the pool; this holds one. Keys are those of the whole database,
 * not of a part.
 */
export class GroupCommit {
  readonly #db: Database;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  #busy = false;

  constructor(deps: { readonly db: Database }) {
    this.#db = deps.db;
  }

  /** Resolves when all `writes` survive a power loss; they appear together or not at all. */
  write(...writes: readonly DatabaseWrite[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ writes, resolve, reject });
      if (!this.#busy) this.#running = this.#run();
    });
  }

  /** Resolves when nothing waits. */
  async idle(): Promise<void> {
    while (this.#busy) await this.#running;
  }

  async #run(): Promise<void> {
    this.#busy = true;
    // What reads first is told one by one what it read, in one turn.
    await setImmediate();
    while (this.#waiting.length > 0) {
      const group = this.#take();
      try {
        await this.#db.write(group.flatMap(({ writes }) => writes.slice()));
        for (const { resolve } of group) resolve();
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#busy = false;
  }

  #take(): Waiting[] {
    let count = 0;
    let size = 0;
    while (count < this.#waiting.length && (size === 0 || size < BATCH_WRITES))
      size += this.#waiting[count++]!.writes.length;
    return this.#waiting.splice(0, count);
  }
}
