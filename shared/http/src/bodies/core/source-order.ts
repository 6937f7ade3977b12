import { RENEW_MS, STALL_MS } from '../../deadlines/bodies.ts';

/** Members that can send a blob, the best to ask first. */
export interface BlobHolders {
  readonly ids: readonly string[];
  /** All have the whole blob, so that several may be asked at once. Else the first is fetching it: it is waited for. */
  readonly areWhole: boolean;
}

/** A member that is being asked, and since when nothing came from it. */
export interface Asked {
  readonly id: string;
  readonly silentMs: number;
}

/** What to do next for one read. */
export type SourceStep =
  | { readonly type: 'ask'; readonly id: string }
  | { readonly type: 'give-up'; readonly ids: readonly string[] }
  | { readonly type: 'wait' }
  /** Nobody is left: look for holders again, or fail. */
  | { readonly type: 'nobody' };

/**
 * Whom to read from: the member of the read before, beside it another when it stalls; those that failed come last,
 * liars never. Remembers over the reads of one blob.
 */
export class SourceOrder {
  #holders: BlobHolders;
  readonly #liars = new Set<string>();
  readonly #failed = new Set<string>();
  #last: string | undefined;

  constructor(holders: BlobHolders) {
    this.#holders = holders;
  }

  get holders(): BlobHolders {
    return this.#holders;
  }

  /** The member that gave the last read. */
  get last(): string | undefined {
    return this.#last;
  }

  /** `isThere`: whoever holds the blob has this piece, so that silence is a fault. */
  next(asked: readonly Asked[], tried: ReadonlySet<string>, isThere: boolean): SourceStep {
    if (isThere) {
      const ids = asked.filter((one) => one.silentMs >= RENEW_MS).map((one) => one.id);
      if (ids.length > 0) return { type: 'give-up', ids };
    }
    const mayAsk = asked.length === 0 || (isThere && asked.every((one) => one.silentMs >= STALL_MS));
    const id = mayAsk ? this.#choose(tried) : undefined;
    if (id !== undefined) return { type: 'ask', id };
    return { type: asked.length === 0 ? 'nobody' : 'wait' };
  }

  /** True if this member took over from another. */
  gave(id: string): boolean {
    const tookOver = this.#last !== undefined && this.#last !== id;
    this.#last = id;
    this.#failed.delete(id);
    return tookOver;
  }

  failed(id: string): void {
    this.#failed.add(id);
  }

  lied(id: string): void {
    this.#liars.add(id);
    if (this.#last === id) this.#last = undefined;
  }

  /** Who was found anew. If all of them lied, they are believed once more: a copy may have been mended. */
  found(holders: BlobHolders): void {
    this.#holders = holders;
    if (holders.ids.every((id) => this.#liars.has(id))) this.#liars.clear();
  }

  #choose(tried: ReadonlySet<string>): string | undefined {
    const left = this.#holders.ids.filter((id) => !tried.has(id) && !this.#liars.has(id));
    const fresh = left.filter((id) => !this.#failed.has(id));
    return fresh.find((id) => id === this.#last) ?? fresh[0] ?? left[0];
  }
}
