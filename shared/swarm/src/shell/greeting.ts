import type { Socket } from 'node:net';
import { HANDSHAKE_BYTES } from '../wire/frames.ts';

/** Bytes of a handshake up to the end of its info_hash. */
const GREETING_BYTES = 48;
const HASH_AT = 28;

/**
 * Waits for the infohash of somebody who dialled us: it says who that is, before a wire is made. `onGreeting` is called
 * once with it and with all bytes that came, lent until it returns; undefined: none came in time, the socket is gone.
 * Returns a function that gives up.
 */
export function readGreeting(
  socket: Socket,
  timeoutMs: number,
  onGreeting: (infoHash: string | undefined, bytes: Uint8Array) => void,
): () => void {
  const head = Buffer.alloc(HANDSHAKE_BYTES);
  let filled = 0;
  const end = (infoHash: string | undefined, bytes: Uint8Array): void => {
    clearTimeout(timer);
    socket.off('data', onData);
    socket.off('close', onClose);
    if (infoHash === undefined) socket.destroy();
    onGreeting(infoHash, bytes);
  };
  const onData = (chunk: Buffer): void => {
    const take = Math.min(chunk.length, head.length - filled);
    head.set(chunk.subarray(0, take), filled);
    filled += take;
    if (filled < GREETING_BYTES) return;
    const bytes = Buffer.concat([head.subarray(0, filled), chunk.subarray(take)]);
    end(head.toString('hex', HASH_AT, GREETING_BYTES), bytes);
  };
  const onClose = (): void => end(undefined, new Uint8Array(0));
  const timer = setTimeout(onClose, timeoutMs);
  socket.on('data', onData);
  socket.on('close', onClose);
  return onClose;
}
