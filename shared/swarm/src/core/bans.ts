/** Liars remembered at once; the oldest is forgotten first. */
const MAX_BANS = 4_096;

/** Peers that sent bad pieces, over all swarms of an engine: who lies about one blob is not asked for another. */
export class Bans {
  readonly #untilMs = new Map<string, number>();
  #eased = 0;

  get size(): number {
    return this.#untilMs.size;
  }

  /** Grows whenever a ban ends before its time: it was shortened, maybe by another swarm, or forgotten. */
  get eased(): number {
    return this.#eased;
  }

  has(peerId: string, nowMs: number): boolean {
    return this.untilMs(peerId, nowMs) > nowMs;
  }

  /** Until when the peer is banned; 0: it is not. */
  untilMs(peerId: string, nowMs: number): number {
    const untilMs = this.#untilMs.get(peerId) ?? 0;
    if (untilMs > 0 && untilMs <= nowMs) this.#untilMs.delete(peerId);
    return untilMs > nowMs ? untilMs : 0;
  }

  add(peerId: string, untilMs: number): void {
    if (untilMs < (this.#untilMs.get(peerId) ?? 0)) this.#eased += 1;
    this.#untilMs.delete(peerId);
    this.#untilMs.set(peerId, untilMs);
    if (this.#untilMs.size <= MAX_BANS) return;
    for (const oldest of this.#untilMs.keys()) {
      this.#untilMs.delete(oldest);
      this.#eased += 1;
      return;
    }
  }
}
