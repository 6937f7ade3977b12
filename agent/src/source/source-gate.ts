import { Slots } from '@sepia/base/async/slots';
import { CodedError } from '@sepia/base/errors';
import { silentMsOf } from './core/silence.ts';

const MAX_WAITING = 256;

/** What comes straight from an upstream. */
type Kind = 'blob' | 'manifest';

/**
 * How many blobs, and how many manifests, may come straight from upstreams at once, and since when the cluster has been silent.
 * A manifest is small, and waits behind no blob: what pulls have begun may take hours.
 */
export class SourceGate {
  readonly #slots: Readonly<Record<Kind, Slots>>;
  #silentSinceMs: number | undefined;

  constructor(slots: number) {
    const slotsFor = (kind: Kind): Slots => {
      const refusal = (): CodedError =>
        new CodedError('NO_PEERS', { message: `too many ${kind}s wait for the upstream` });
      return new Slots({ slots, limits: { queueLimit: MAX_WAITING, refusal } });
    };
    this.#slots = { blob: slotsFor('blob'), manifest: slotsFor('manifest') };
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
  async enter(kind: Kind, signal: AbortSignal): Promise<() => void> {
    return await this.#slots[kind].acquire(signal);
  }
}
