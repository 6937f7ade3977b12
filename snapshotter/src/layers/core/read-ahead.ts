import type { Run } from './runs.ts';

/** What is known of a layer's spans. */
interface SpansNow {
  /** The span is on disk, or on its way there. */
  readonly isHere: (span: number) => boolean;
  /** Some part of the span was read, whether or not the reader had to wait for it. */
  readonly wasRead: (span: number) => boolean;
}

/** Spans that are fetched ahead at most. */
const MOST_AHEAD = 8;
/** Of so many spans that were read in order one is fetched ahead: what is fetched in vain is at most a quarter of them. */
const READ_PER_AHEAD = 4;

/**
 * Which spans of a layer come next while somebody goes through it in order. Reads that jump, as those of a start do, get
 * nothing ahead; nor does who leaves out what was fetched ahead.
 */
export class ReadAhead {
  /** The first span behind what was read. */
  #next = 0;
  /** Spans that were read in order. */
  #inOrder = 0;
  /** The first span behind what was fetched ahead. */
  #end = 0;

  /** Somebody waits for these spans and for what of the layer lies between them. */
  waited(first: number, last: number, now: SpansNow): void {
    const passed = Math.max(0, Math.min(first, this.#end) - this.#next);
    if (!this.#goesOn(first, last, now)) {
      this.#inOrder = last + 1 - first;
      this.#next = last + 1;
      this.#end = this.#next;
      return;
    }
    this.#inOrder += passed + Math.max(0, last + 1 - Math.max(first, this.#next));
    this.#next = Math.max(this.#next, last + 1);
    this.#end = Math.max(this.#next, this.#end);
  }

  /** What is to be fetched now, where nothing is on its way ahead; `spans`: how many the layer has. */
  ahead(spans: number, { isHere }: Pick<SpansNow, 'isHere'>): Run | undefined {
    const most = Math.min(MOST_AHEAD, Math.floor(this.#inOrder / READ_PER_AHEAD));
    if (this.#end - this.#next > most / 2) return undefined;
    const end = Math.min(spans, this.#next + most);
    let first = this.#end;
    while (first < end && isHere(first)) first += 1;
    if (first >= end) return undefined;
    let last = first;
    while (last + 1 < end && !isHere(last + 1)) last += 1;
    this.#end = last + 1;
    return { first, last };
  }

  /** Behind what was read before, or with nothing between that has to be fetched; what was fetched ahead was read. */
  #goesOn(first: number, last: number, { isHere, wasRead }: SpansNow): boolean {
    if (this.#inOrder === 0 || last + 1 < this.#next) return false;
    for (let span = this.#next; span < first; span++)
      if (!(span < this.#end ? wasRead(span) : isHere(span))) return false;
    return true;
  }
}
