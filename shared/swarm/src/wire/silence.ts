import type { Socket } from 'node:net';
import { CodedError } from '@sepia/base/errors';

interface SilenceTimes {
  /** Between two keep-alives, in ms. */
  readonly keepAliveMs: number;
  /** A peer that sends nothing for this long is silent, in ms. */
  readonly idleMs: number;
}

/** What happens at each keep-alive. */
interface SilenceHooks {
  readonly keepAlive: () => void;
  readonly fail: (error: CodedError) => void;
}

/**
 * Calls `keepAlive` in its time, or `fail` with `TIMEOUT` for a peer that is silent. A socket's own timeout cannot tell:
 * what we write, keep-alives too, starts it anew. A peer that takes so slowly that nothing is read from it is heard by
 * what it takes. The caller clears the timer.
 */
export function watchSilence(
  socket: Pick<Socket, 'isPaused' | 'bytesWritten' | 'writableLength'> & {
    on(event: 'data', heard: () => void): unknown;
  },
  { keepAliveMs, idleMs }: SilenceTimes,
  { keepAlive, fail }: SilenceHooks,
  nowMs: () => number = () => performance.now(),
): NodeJS.Timeout {
  let heardMs = nowMs();
  let takenBytes = 0;
  socket.on('data', () => {
    heardMs = nowMs();
  });
  return setInterval(() => {
    const taken = socket.bytesWritten - socket.writableLength;
    if (socket.isPaused() && taken > takenBytes) heardMs = nowMs();
    takenBytes = taken;
    if (nowMs() - heardMs > idleMs) fail(new CodedError('TIMEOUT', { message: 'peer is silent' }));
    else keepAlive();
  }, keepAliveMs);
}
