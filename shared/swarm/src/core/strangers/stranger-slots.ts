interface Taker {
  /** Since when it waits, or has its slot, in ms. */
  sinceMs: number;
  hasSlot: boolean;
}

/** Peers to unchoke, and peers to choke. */
export interface SlotChange<K> {
  readonly unchoke: readonly K[];
  readonly choke: readonly K[];
}

/**
 * Upload slots for peers that are no members (BEP 3, choking): who asked first is served first; who had its slot for
 * `holdMs` gives way while others wait. Nothing is owed for what they send: bytes are no claim to a slot.
 */
export class StrangerSlots<K> {
  readonly #slots: number;
  readonly #holdMs: number;
  /** In the order in which they asked. */
  readonly #takers = new Map<K, Taker>();

  constructor(options: { readonly slots: number; readonly holdMs: number }) {
    this.#slots = options.slots;
    this.#holdMs = options.holdMs;
  }

  get size(): number {
    return this.#takers.size;
  }

  has(who: K): boolean {
    return this.#takers.get(who)?.hasSlot === true;
  }

  /** A peer is interested: it waits for a slot, unless it has one. */
  ask(who: K, nowMs: number): void {
    if (!this.#takers.has(who)) this.#takers.set(who, { sinceMs: nowMs, hasSlot: false });
  }

  /** A peer is not interested any more, or is gone. True if it had a slot. */
  leave(who: K): boolean {
    const hadSlot = this.has(who);
    this.#takers.delete(who);
    return hadSlot;
  }

  /** Gives free slots away, and those that were held long enough. */
  turn(nowMs: number): SlotChange<K> {
    const waiting = [...this.#takers].filter(([, taker]) => !taker.hasSlot);
    const held = [...this.#takers].filter(([, taker]) => taker.hasSlot);
    let free = this.#slots - held.length;
    const due = held
      .filter(([, taker]) => nowMs - taker.sinceMs >= this.#holdMs)
      .sort(([, a], [, b]) => a.sinceMs - b.sinceMs);
    const choke: K[] = [];
    for (const [who] of due.slice(0, Math.max(0, waiting.length - free))) {
      choke.push(who);
      free += 1;
      // It may ask again, behind those that wait.
      this.#takers.delete(who);
      this.#takers.set(who, { sinceMs: nowMs, hasSlot: false });
    }
    const unchoke: K[] = [];
    for (const [who, taker] of waiting.slice(0, Math.max(0, free))) {
      taker.hasSlot = true;
      taker.sinceMs = nowMs;
      unchoke.push(who);
    }
    return { unchoke, choke };
  }
}
