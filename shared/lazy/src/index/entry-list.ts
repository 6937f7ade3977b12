import { CodedError } from '@sepia/base/errors';
import { textOf } from '../tar/byte-string.ts';
import { EntryBudget } from '../tar/entry-budget.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import { TarReader } from '../tar/tar-reader.ts';
import { type LayerEntry, layerEntry } from './layer-entry.ts';

/** The entries of a layer as an index keeps them, from its tar as it comes. All @throw {CodedError} `LAYER_INVALID`, `LAYER_NOT_LAZY` */
export class EntryList {
  readonly #entries: LayerEntry[] = [];
  readonly #tar = new TarReader({ entry: (entry) => this.#add(entry) });
  readonly #budget = new EntryBudget();

  /** See `LargeLayers`. */
  get isLarge(): boolean {
    return this.#budget.isLarge;
  }

  push(bytes: Uint8Array): void {
    this.#tar.push(bytes);
  }

  end(): readonly LayerEntry[] {
    this.#tar.end();
    return this.#entries;
  }

  #add(entry: TarEntry): void {
    const over = this.#budget.add(entry);
    if (over !== undefined)
      throw new CodedError('LAYER_NOT_LAZY', { message: over.message, detail: { reason: over.reason } });
    if (entry.usesGlobals)
      throw new CodedError('LAYER_NOT_LAZY', {
        detail: { reason: 'global-header', path: textOf(entry.name) },
      });
    this.#entries.push(layerEntry(entry));
  }
}
