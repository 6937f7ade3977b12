import { LatestMap } from '@sepia/base/latest-map';
import { FORGOTTEN_MS } from '../../deadlines.ts';

const MAX_LAYERS = 1_000;

/**
 * Layers of which an agent that answers has no bytes: their upstream is gone. Waiting for one begins with its first
 * refusal, not with each read. Pure: time is passed in, in ms.
 */
export class Outages {
  readonly #refused = new LatestMap<string, { readonly sinceMs: number; readonly lastMs: number }>(
    MAX_LAYERS,
  );

  /** It was asked for at `beganMs` and refused now. @returns for how long nothing of it came */
  refused(digest: string, beganMs: number, nowMs: number): number {
    const known = this.#refused.get(digest);
    const isKnown = known !== undefined && beganMs - known.lastMs <= FORGOTTEN_MS;
    const sinceMs = isKnown ? known.sinceMs : nowMs;
    this.#refused.set(digest, { sinceMs, lastMs: nowMs });
    return nowMs - sinceMs;
  }

  /** Bytes of a blob came: its outage is over. */
  served(digest: string): void {
    this.#refused.delete(digest);
  }
}
