import { LEAST_LOOK_MS, MOST_LOOK_MS } from '../deadlines/sockets.ts';

/** Files and sockets that a process has open, and how many it may. */
interface OpenFiles {
  readonly open: number;
  readonly limit: number;
}

/** A look counts all descriptors: of many times as long as it took, no more than one look. */
const LOOK_SHARE = 20;
/** What is under way needs descriptors beside those of clients: files, and sockets to members and registries. */
const RESERVE = { least: 16, most: 64, share: 1 / 16 };

/**
 * Whether one more connection leaves descriptors for what is under way. Where none is left the system takes connections and drops
 * them unheard, and a client sees a reset; who is refused before that can be told why. `look`: undefined where the
 * system does not say; `nowMs` never goes back.
 */
export class DescriptorRoom {
  readonly #deps: { readonly look: () => OpenFiles | undefined; readonly nowMs: () => number };
  #seen: OpenFiles | undefined;
  /** Connections that came since. */
  #since = 0;
  #lookAtMs = { soonest: Number.NEGATIVE_INFINITY, latest: Number.NEGATIVE_INFINITY };

  constructor(deps: { readonly look: () => OpenFiles | undefined; readonly nowMs: () => number }) {
    this.#deps = deps;
  }

  /** Counts a connection that has just come; false where it is one too many. */
  takes(): boolean {
    this.#since += 1;
    const nowMs = this.#deps.nowMs();
    if (nowMs >= this.#lookAtMs.latest || (nowMs >= this.#lookAtMs.soonest && !this.#fits()))
      this.#look(nowMs);
    return this.#fits();
  }

  #fits(): boolean {
    if (this.#seen === undefined) return true;
    const { open, limit } = this.#seen;
    return open + this.#since + reserveOf(limit) <= limit;
  }

  #look(nowMs: number): void {
    this.#seen = this.#deps.look();
    this.#since = 0;
    const endMs = this.#deps.nowMs();
    const soonest = endMs + Math.max(LEAST_LOOK_MS, (endMs - nowMs) * LOOK_SHARE);
    this.#lookAtMs = { soonest, latest: Math.max(soonest, endMs + MOST_LOOK_MS) };
  }
}

/** Descriptors that clients do not get. */
export function reserveOf(limit: number): number {
  return Math.min(RESERVE.most, Math.max(RESERVE.least, Math.floor(limit * RESERVE.share)));
}
