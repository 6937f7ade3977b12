import { CodedError } from '@sepia/base/errors';
import { notLazy } from '../not-lazy.ts';
import { EntryBudget } from '../tar/entry-budget.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import { TarReader } from '../tar/tar-reader.ts';
import { type LayerEntry, layerEntry } from './layer-entry.ts';

/** Who unpacks goes through symbolic links before `..` and before a slash at the end: it may be another file then. */
const LINK_NAME_OF_ITS_OWN = /(?:^|\/)\.\.(?:\/|$)|\/$/;

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
    if (entry.usesGlobals) notLazy('global-header', entry.name);
    if (entry.type === 'hardlink' && LINK_NAME_OF_ITS_OWN.test(entry.linkName))
      notLazy('hard-link-name-not-plain', entry.name);
    this.#entries.push(layerEntry(entry));
  }
}
