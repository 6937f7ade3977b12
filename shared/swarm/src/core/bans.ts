/** Liars remembered at once; the oldest is forgotten first. */
const MAX_BANS = 4_096;

/** Peers that sent bad pieces, over all swarms of an engine: who lies about one blob is not asked for another. */
export class Bans {
  readonly #untilMs = new Map<string, number>();

  get size(): number {
    return this.#untilMs.size;
  }

  has(peerId: string, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(peerId);
    if (untilMs === undefined) return false;
    if (untilMs > nowMs) return true;
    this.#untilMs.delete(peerId);
    return false;
  }

  add(peerId: string, untilMs: number): void {
    this.#untilMs.delete(peerId);
    this.#untilMs.set(peerId, untilMs);
    if (this.#untilMs.size <= MAX_BANS) return;
    for (const oldest of this.#untilMs.keys()) {
      this.#untilMs.delete(oldest);
      return;
    }
  }
}
