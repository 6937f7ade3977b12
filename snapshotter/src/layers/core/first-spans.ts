import type { Run } from './runs.ts';

/** A layer as this queue sees it. */
export interface Spanned {
  /** The span is on disk, or on its way there. */
  hasOrFetches(span: number): boolean;
}

/** Most spans that wait: 20 GB of layers. More are not put in; they come with the rest. */
const MAX_WAITING = 20_000;

/** Spans that a start reads, over all layers, in the order in which it does: fetched before the rest. */
export class FirstSpans<Layer extends Spanned> {
  #waiting: { readonly layer: Layer; readonly span: number }[] = [];

  /** Puts spans behind those that wait; each of a layer once. */
  add(spans: readonly { readonly layer: Layer; readonly span: number }[]): void {
    const known = new Map<Layer, Set<number>>();
    for (const { layer, span } of this.#waiting) known.set(layer, (known.get(layer) ?? new Set()).add(span));
    for (const { layer, span } of spans) {
      const own = known.get(layer) ?? new Set();
      if (own.has(span) || layer.hasOrFetches(span) || this.#waiting.length >= MAX_WAITING) continue;
      known.set(layer, own.add(span));
      this.#waiting.push({ layer, span });
    }
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /**
   * Takes the first spans out that have to be fetched and are neighbours, at most `most`; layers that may not be filled lose
   * theirs. `onLost`: told of each that would have to be fetched.
   */
  take(
    most: number,
    mayFill: (layer: Layer) => boolean,
    onLost: (layer: Layer, span: number) => void = () => undefined,
  ): { layer: Layer; run: Run } | undefined {
    let at = 0;
    const isOver = (one: { layer: Layer; span: number }): boolean =>
      one.layer.hasOrFetches(one.span) || !mayFill(one.layer);
    for (; at < this.#waiting.length && isOver(this.#waiting[at]!); at++) {
      const { layer, span } = this.#waiting[at]!;
      if (!layer.hasOrFetches(span)) onLost(layer, span);
    }
    const head = this.#waiting[at];
    let end = at + 1;
    while (head !== undefined && end - at < most && isNext(this.#waiting[end], head, end - at)) end += 1;
    this.#waiting = this.#waiting.slice(head === undefined ? at : end);
    if (head === undefined) return undefined;
    return { layer: head.layer, run: { first: head.span, last: head.span + end - at - 1 } };

    function isNext(
      one: { layer: Layer; span: number } | undefined,
      from: typeof head,
      steps: number,
    ): boolean {
      return one !== undefined && one.layer === from?.layer && one.span === from.span + steps && !isOver(one);
    }
  }
}
