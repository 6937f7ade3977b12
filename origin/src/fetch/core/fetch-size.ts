/** Sizes that are believed and then not stated, until the upstream counts as lying. */
const MAX_CHANGES = 3;

/** What is to be done with the size that a fetch goes by once an answer came. */
export type SizeVerdict =
  /** It is shown to whoever asks. */
  | 'goes'
  /** It was only told by a manifest, and is not the blob's: nothing was shown by it, so the fetch begins with the other. */
  | 'begin-anew'
  /** It has changed too often. */
  | 'fails'
  /** Others go by it: this connection is of no use. */
  | 'lies';

/**
 * By which size one blob is fetched. A manifest only tells a size; what the upstream states for the blob wins, and a size that
 * it does not state is doubted once the bytes do not fit. Pure.
 */
export class FetchSize {
  readonly #doubtBelowBytes: number;
  #stated: boolean;
  #changes = 0;

  /** `isTold`: by a manifest. `doubtBelowBytes`: so small a blob waits for its end rather than believe what no answer states. */
  constructor(options: { readonly isTold: boolean; readonly doubtBelowBytes: number }) {
    this.#stated = !options.isTold;
    this.#doubtBelowBytes = options.doubtBelowBytes;
  }

  /** True once the upstream itself has said how big the blob is. */
  get isStated(): boolean {
    return this.#stated;
  }

  /** An answer came. `known`: the size gone by; `isShown`: others go by it already; `found`: what the answer states. */
  answered(known: number, isShown: boolean, found: number | undefined): SizeVerdict {
    if (found === undefined) {
      if (this.#stated || isShown || known > this.#doubtBelowBytes) return 'goes';
      return this.#change();
    }
    if (found === known) {
      this.#stated = true;
      return 'goes';
    }
    return isShown ? 'lies' : this.#change();
  }

  #change(): SizeVerdict {
    this.#changes += 1;
    this.#stated = true;
    return this.#changes > MAX_CHANGES ? 'fails' : 'begin-anew';
  }
}
