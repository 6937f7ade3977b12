import { type Digest, isDigest } from '@sepia/base/digest';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { News } from '@sepia/base/news';
import type { RecordEntry } from '@sepia/records/set/record-set';
import type { RecordStore } from '@sepia/records/store/record-store';
import { HINT_FORGET_MS } from '../deadlines/own.ts';

/** A copy of a blob that a member still has to get. */
export interface Hint {
  readonly digest: Digest;
  readonly target: string;
  readonly upstream: string;
  readonly repository: string;
}

/** What identifies an owed copy: pushes to two upstreams owe two. */
type CopyOwed = Pick<Hint, 'digest' | 'target' | 'upstream'>;

const QUEUE = 'copy';
/** Owed copies that are held in memory; what is more waits on the disk. */
const HINTS_DEFAULTS = Object.freeze({ maxKnown: 10_000 });
/** Parts of a key of earlier versions, of which copies for several upstreams had one. */
const FORMER_PARTS = 3;
/** Left-overs of copies made by earlier versions that are taken off the disk in one go. */
const SWEEP_BATCH = 500;

/**
 * The copies that this origin owes to others: kept in the records, so a restart goes on with them. A copy that was made
 * leaves nothing behind. The disk is read once; after that what is owed is known here.
 */
export class Hints {
  /** Told when there is something new. */
  readonly news = new News();
  readonly #records: RecordStore;
  readonly #log: Logger;
  readonly #nowMs: () => number;
  readonly #maxKnown: number;
  readonly #known = new Map<string, Hint>();
  /** Keys that were made good while the disk was being read. */
  #doneMeanwhile: Set<string> | undefined;
  /** Keys of copies that were made, still on the disk. */
  readonly #made = new Map<string, string[]>();
  #forgetting: NodeJS.Timeout | undefined;
  /** True while hints may be on disk that are not in `#known`. */
  #more = true;

  constructor(
    deps: { readonly records: RecordStore; readonly log: Logger; readonly nowMs: () => number },
    options: { readonly maxKnown?: number } = {},
  ) {
    this.#maxKnown = options.maxKnown ?? HINTS_DEFAULTS.maxKnown;
    this.#records = deps.records;
    this.#log = deps.log;
    this.#nowMs = deps.nowMs;
  }

  /** How many are known to be owed. */
  get size(): number {
    return this.#known.size;
  }

  /** Durable when it resolves, all that are not yet in one step. */
  async add(...owed: readonly Hint[]): Promise<void> {
    const hints = owed.filter((hint) => this.#known.get(textOf(hint))?.repository !== hint.repository);
    if (hints.length === 0) return;
    const atMs = this.#nowMs();
    for (const hint of hints) this.#made.delete(textOf(hint));
    await this.#records.jobSet.mergeAll(hints.map((hint) => ({ key: keyOf(hint), atMs, value: hint })));
    for (const hint of hints) {
      this.#doneMeanwhile?.delete(textOf(hint));
      this.#know(hint);
    }
    this.news.tell();
  }

  /** A copy was made. It is off the disk soon, or copied once more after a restart, which does no harm. */
  done(hint: CopyOwed): void {
    const text = textOf(hint);
    this.#known.delete(text);
    this.#doneMeanwhile?.add(text);
    this.#made.set(text, keyOf(hint));
    this.#forgetting ??= setTimeout(() => void this.settle(), HINT_FORGET_MS);
  }

  /** Takes copies that were made off the disk now. */
  async settle(): Promise<void> {
    clearTimeout(this.#forgetting);
    this.#forgetting = undefined;
    try {
      while (this.#made.size > 0) {
        // Not all at first: one that is owed again meanwhile stays on the disk.
        const some = [...this.#made].slice(0, SWEEP_BATCH);
        for (const [text] of some) this.#made.delete(text);
        await this.#records.jobSet.remove(...some.map(([, key]) => key));
      }
    } catch (error) {
      logFailure(this.#log, error, 'copies that were made are not off the disk', {}, 'debug');
    }
  }

  /** Those that are known, the oldest first; reads the disk where there may be others. */
  async all(): Promise<readonly Hint[]> {
    if (this.#more && this.#known.size < this.#maxKnown / 2) await this.#read();
    return [...this.#known.values()];
  }

  /** True if some copy of `digest` is still owed. */
  async owes(digest: Digest): Promise<boolean> {
    for (const hint of this.#known.values()) if (hint.digest === digest) return true;
    if (!this.#more) return false;
    for await (const { value } of this.#records.jobSet.list([QUEUE, digest])) {
      const hint = hintIn(value);
      if (hint !== undefined && !this.#made.has(textOf(hint))) return true;
    }
    return false;
  }

  async #read(): Promise<void> {
    if (this.#doneMeanwhile !== undefined) return;
    const done = new Set<string>();
    this.#doneMeanwhile = done;
    try {
      this.#more = await this.#readAll(done);
    } finally {
      this.#doneMeanwhile = undefined;
    }
  }

  /** True if there are more on the disk than are held here. Tombstones of earlier versions go, and keys without an upstream. */
  async #readAll(done: ReadonlySet<string>): Promise<boolean> {
    const { jobSet } = this.#records;
    const left: (readonly string[])[] = [];
    const anew: RecordEntry<Hint>[] = [];
    const sweep = async (): Promise<void> => {
      if (anew.length > 0) await jobSet.mergeAll(anew.splice(0));
      await jobSet.remove(...left.splice(0));
    };
    let more = false;
    for await (const { key, atMs, value } of jobSet.entries([QUEUE])) {
      const hint = hintIn(value);
      if (value === undefined) left.push(key);
      else if (hint !== undefined) {
        const text = textOf(hint);
        const isDone = done.has(text) || this.#made.has(text);
        if (key.length === FORMER_PARTS) {
          left.push(key);
          if (!isDone) anew.push({ key: keyOf(hint), atMs, value: hint });
        }
        if (!isDone && !this.#know(hint)) more = true;
      }
      if (left.length >= SWEEP_BATCH) await sweep();
      if (more) break;
    }
    await sweep();
    return more;
  }

  #know(hint: Hint): boolean {
    const text = textOf(hint);
    const has = this.#known.has(text);
    if (!has && this.#known.size >= this.#maxKnown) this.#more = true;
    else this.#known.set(text, hint);
    return has || this.#known.has(text);
  }
}

function keyOf(hint: CopyOwed): string[] {
  return [QUEUE, hint.digest, hint.target, hint.upstream];
}

function textOf(hint: CopyOwed): string {
  return `${hint.digest}\n${hint.target}\n${hint.upstream}`;
}

/** The hint in a stored value; undefined if the value is not one. */
function hintIn(value: unknown): Hint | undefined {
  const hint = value as Partial<Hint> | null | undefined;
  const isHint =
    typeof hint?.target === 'string' &&
    typeof hint.upstream === 'string' &&
    typeof hint.digest === 'string' &&
    isDigest(hint.digest);
  return isHint ? (hint as Hint) : undefined;
}
