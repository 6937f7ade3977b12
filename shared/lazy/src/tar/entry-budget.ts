import type { TarEntry } from './tar-entry.ts';

/** More entries than any image has in one layer; they are held in memory, about 0.5 KiB each. */
const MAX_ENTRIES = 2_000_000;
/** What names, targets of links and attributes of an entry may be long together, bytes; the rest counts. */
const USUAL_BYTES = 256;
/** From so many on only one layer at a time is held, see `LargeLayers`. */
const LARGE_ENTRIES = 100_000;
const LARGE_LONG_BYTES = 8 * 1024 * 1024;
/** All that is longer, of all entries of a layer. A layer of 1 MiB compressed may have gigabytes of attributes. */
const MAX_LONG_BYTES = 64 * 1024 * 1024;

/** How much memory the entries of one layer may take. */
export class EntryBudget {
  readonly #maxEntries: number;
  readonly #maxLongBytes: number;
  #entries = 0;
  #longBytes = 0;

  constructor(maxEntries = MAX_ENTRIES, maxLongBytes = MAX_LONG_BYTES) {
    this.#maxEntries = maxEntries;
    this.#maxLongBytes = maxLongBytes;
  }

  /** True if what was counted so far takes some 50 MiB or more. */
  get isLarge(): boolean {
    return this.#entries >= LARGE_ENTRIES || this.#longBytes >= LARGE_LONG_BYTES;
  }

  /** Counts one more entry. @returns why the layer cannot be held, in code and text; undefined if it can */
  add(
    entry: Pick<TarEntry, 'name' | 'linkName' | 'xattrs'>,
  ): { readonly reason: string; readonly message: string } | undefined {
    this.#entries += 1;
    if (this.#entries > this.#maxEntries)
      return {
        reason: 'too-many-entries',
        message: `the layer has more than ${this.#maxEntries} entries`,
      };
    let bytes = entry.name.length + entry.linkName.length;
    for (const [key, value] of entry.xattrs) bytes += key.length + value.length;
    this.#longBytes += Math.max(0, bytes - USUAL_BYTES);
    if (this.#longBytes <= this.#maxLongBytes) return undefined;
    return {
      reason: 'too-long-entries',
      message: `names and attributes of the layer's entries are ${this.#maxLongBytes} bytes longer than usual`,
    };
  }
}
