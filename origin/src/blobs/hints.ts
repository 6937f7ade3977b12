import { type Digest, isDigest } from '@sepia/base/digest';
import type { RecordStore } from '@sepia/records/record-store';

/** A copy of a blob that a member still has to get. */
export interface Hint {
  readonly digest: Digest;
  readonly target: string;
  readonly upstream: string;
  readonly repository: string;
}

const QUEUE = 'copy';

/** The copies that this origin owes to others: kept in the records, so a restart goes on with them. */
export class Hints {
  readonly #records: RecordStore;
  readonly #nowMs: () => number;

  constructor(deps: { readonly records: RecordStore; readonly nowMs: () => number }) {
    this.#records = deps.records;
    this.#nowMs = deps.nowMs;
  }

  /** Durable when it resolves. */
  async add(hint: Hint): Promise<void> {
    await this.#records.jobSet.put(keyOf(hint), hint, this.#nowMs());
  }

  async done(hint: Pick<Hint, 'digest' | 'target'>): Promise<void> {
    await this.#records.jobSet.delete(keyOf(hint), this.#nowMs());
  }

  async all(limit: number): Promise<Hint[]> {
    const found: Hint[] = [];
    for await (const { value } of this.#records.jobSet.list([QUEUE], { limit })) {
      const hint = value as Partial<Hint>;
      if (typeof hint.target === 'string' && typeof hint.digest === 'string' && isDigest(hint.digest))
        found.push(hint as Hint);
    }
    return found;
  }

  /** True if some copy of `digest` is still owed. */
  async owes(digest: Digest): Promise<boolean> {
    for await (const _ of this.#records.jobSet.list([QUEUE, digest], { limit: 1 })) return true;
    return false;
  }
}

function keyOf(hint: Pick<Hint, 'digest' | 'target'>): string[] {
  return [QUEUE, hint.digest, hint.target];
}
