/**
 * Spans that found no room on the disk, in memory: what was used last, up to `budgetBytes`, one in any case. By a
 * name of their layer and its index (another index has other spans) and their number.
 */
export class SpareSpans {
  readonly #budgetBytes: number;
  readonly #fullMs: number;
  /** What was used last comes last. */
  readonly #spans = new Map<string, Buffer>();
  #bytes = 0;
  #fullUntilMs = Number.NEGATIVE_INFINITY;

  /** @param fullMs so long after a write found no room the disk counts as full */
  constructor(limits: { readonly budgetBytes: number; readonly fullMs: number }) {
    this.#budgetBytes = limits.budgetBytes;
    this.#fullMs = limits.fullMs;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** A write found no room lately. */
  isFull(nowMs: number): boolean {
    return nowMs < this.#fullUntilMs;
  }

  /** A write found no room. True if there was room until then. */
  noteFull(nowMs: number): boolean {
    const isNews = !this.isFull(nowMs);
    this.#fullUntilMs = nowMs + this.#fullMs;
    return isNews;
  }

  /** Those of these that are here. */
  of(layer: string, spans: readonly number[]): Map<number, Buffer> {
    const found = new Map<number, Buffer>();
    for (const span of spans) {
      const key = keyOf(layer, span);
      const bytes = this.#spans.get(key);
      if (bytes === undefined) continue;
      this.#spans.delete(key);
      this.#spans.set(key, bytes);
      found.set(span, bytes);
    }
    return found;
  }

  put(layer: string, span: number, bytes: Buffer): void {
    this.drop(layer, span);
    this.#spans.set(keyOf(layer, span), bytes);
    this.#bytes += bytes.length;
    for (const [key, { length }] of this.#spans) {
      if (this.#bytes <= this.#budgetBytes || this.#spans.size === 1) return;
      this.#spans.delete(key);
      this.#bytes -= length;
    }
  }

  /** Drops a span that is on disk now. */
  drop(layer: string, span: number): void {
    const key = keyOf(layer, span);
    this.#bytes -= this.#spans.get(key)?.length ?? 0;
    this.#spans.delete(key);
  }

  /** Drops all spans of a layer that is gone. */
  forget(layer: string): void {
    for (const [key, { length }] of this.#spans) {
      if (!key.startsWith(`${layer}#`)) continue;
      this.#spans.delete(key);
      this.#bytes -= length;
    }
  }
}

function keyOf(layer: string, span: number): string {
  return `${layer}#${span}`;
}
