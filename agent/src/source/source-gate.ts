import { Slots } from '@sepia/base/async/slots';
import { CodedError } from '@sepia/base/errors';
import { silentMsOf } from './core/silence.ts';

const MAX_WAITING = 256;

/** How many blobs may come straight from upstreams at once, and since when the cluster has been silent. */
export class SourceGate {
  readonly #slots: Slots;
  #silentSinceMs: number | undefined;

  constructor(slots: number) {
    const refusal = (): CodedError =>
      new CodedError('NO_PEERS', { message: 'too many blobs wait for the upstream' });
    this.#slots = new Slots({ slots, limits: { queueLimit: MAX_WAITING, refusal } });
  }

  /** Some member answered, or none did: for how long already, `cause` says. */
  note(answered: boolean, nowMs: number, cause?: unknown): void {
    if (answered) this.#silentSinceMs = undefined;
    else this.#silentSinceMs ??= nowMs - silentMsOf(cause);
  }

  silentForMs(nowMs: number): number {
    return this.#silentSinceMs === undefined ? 0 : nowMs - this.#silentSinceMs;
  }

  /** Waits for a slot; call the result to give it back. @throws `NO_PEERS` when too many wait; the signal's reason */
  async enter(signal: AbortSignal): Promise<() => void> {
    return await this.#slots.acquire(signal);
  }
}
