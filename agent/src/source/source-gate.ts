import { CodedError } from '@sepia/base/errors';

const MAX_WAITING = 256;

/** How many blobs may come straight from upstreams at once, and since when the cluster has been silent. */
export class SourceGate {
  readonly #slots: number;
  #busy = 0;
  #silentSinceMs: number | undefined;
  readonly #waiting: (() => void)[] = [];

  constructor(slots: number) {
    this.#slots = slots;
  }

  /** Some member answered, or none did. */
  note(answered: boolean, nowMs: number): void {
    if (answered) this.#silentSinceMs = undefined;
    else this.#silentSinceMs ??= nowMs;
  }

  silentForMs(nowMs: number): number {
    return this.#silentSinceMs === undefined ? 0 : nowMs - this.#silentSinceMs;
  }

  /** Waits for a slot; call the result once to give it back. */
  async enter(signal: AbortSignal): Promise<() => void> {
    if (this.#waiting.length >= MAX_WAITING)
      throw new CodedError('NO_PEERS', { message: 'too many blobs wait for the upstream' });
    while (this.#busy >= this.#slots) {
      await new Promise<void>((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason);
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        this.#waiting.push(resolve);
      });
    }
    this.#busy += 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#busy -= 1;
      this.#waiting.shift()?.();
    };
  }
}
