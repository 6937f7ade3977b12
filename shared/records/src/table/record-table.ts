/** One write of a change. Keys of the whole table, not of a part. */
export type Write =
  | { readonly type: 'put'; readonly key: string; readonly value: string }
  | { readonly type: 'del'; readonly key: string };

/** Keys of a part of a table, in the order of their UTF-8 bytes. */
export interface KeyRange {
  readonly gte?: string;
  readonly gt?: string;
  readonly lt?: string;
  readonly lte?: string;
}

/** What a change makes of the texts that it found: writes, which become durable together, and its answer. */
export interface TableStep<A> {
  /** None: nothing changes. Only keys that the change named. */
  readonly writes: readonly Write[];
  readonly answer: A;
  /** Runs once the writes are durable, before the next change of one of the keys begins here. */
  readonly onDurable?: () => void;
}

/** Hears of a key that another member wrote; undefined: some may have been missed. */
export type OnForeign = (key: string | undefined) => void;

/**
 * Where records rest: texts (without NUL, as JSON is) under keys, ordered, changed by compare-and-set. The engine below
 * all registers, sets and queues; what they mean is decided above it, once for all engines. `shared/records/test/table/contract.ts` is what each must keep.
 */
export interface RecordTable {
  /** True where all origins write to the same table: then each of them alone is the owner of all records. */
  readonly isShared: boolean;
  /** The text under a key, as the last change that ended before the call left it, or a later one. */
  get(key: string): Promise<string | undefined>;
  /** As {@link get} for several, in their order; the caller bounds how many. */
  getMany(keys: readonly string[]): Promise<(string | undefined)[]>;
  /**
   * Reads `keys` and writes what `step` makes of them, in one step: no other change of one of the keys comes between,
   * all writes or none are there. Durable when it resolves. `step` is pure and may run again; the whole change may be
   * made again where its answer was lost, so a second run on its own result must do no harm. `beside`: keys that are read at
   * the same moment and found behind the others; they may change before the writes are there, which are given up if that takes long.
   */
  change<A>(
    keys: readonly string[],
    step: (found: readonly (string | undefined)[]) => TableStep<A>,
    beside?: readonly string[],
  ): Promise<A>;
  /** Keys and texts of a range, in order. What was there before the call and stays is not missed. */
  entries(range: KeyRange): AsyncIterable<readonly [key: string, text: string]>;
  keys(range: KeyRange): AsyncIterable<string>;
  /** Calls `listener` for what other members write; never where the table is not shared. */
  onForeign(listener: OnForeign): void;
  /** Resolves when each change that was made here and is in the table by now has run its `onDurable`. */
  told(): Promise<void>;
  /** Resolves when no change is under way. */
  idle(): Promise<void>;
}
