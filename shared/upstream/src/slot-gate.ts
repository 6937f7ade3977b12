import { Slots } from '@sepia/base/async/slots';
import { CodedError } from '@sepia/base/errors';

interface GateOptions {
  /** Slots that may be held at once. */
  readonly slots: number;
  /** Most waiters. */
  readonly queueLimit: number;
  /** Longest wait, in ms. */
  readonly waitMs: number;
}

/** Limits how many exchanges are open at once; who finds no slot in time gets `UPSTREAM_LIMITED`. */
export class SlotGate extends Slots {
  constructor({ slots, queueLimit, waitMs }: GateOptions) {
    super({ slots, limits: { queueLimit, waitMs, refusal: busy } });
  }
}

function busy(why: 'full' | 'late'): CodedError {
  const message =
    why === 'full'
      ? 'too many requests wait for a connection to the upstream'
      : 'no connection to the upstream became free';
  return new CodedError('UPSTREAM_LIMITED', {
    message: `${message} (max-connections)`,
    detail: { retryAfterSeconds: 1 },
  });
}
