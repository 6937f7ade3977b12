import { finished, type Readable } from 'node:stream';

/**
 * The chunks of a body as they came from the socket, each asked for when the one before was taken. A stream's own iterator
 * joins what waits meanwhile in memory of its own: a copy, and a chunk that nobody can give back. As that one it ends the
 * body when it is left. @throws what the body fails with, also when it is closed before its end
 */
export async function* bodyChunks(body: Readable): AsyncGenerator<Uint8Array, void, undefined> {
  const came: Uint8Array[] = [];
  let over: { readonly error: Error | null | undefined } | undefined;
  let wake = (): void => undefined;
  // Its listeners stay: an error of a body that was left is nobody's.
  finished(body, { writable: false }, (error) => {
    over = { error };
    wake();
  });
  body.pause();
  body.on('data', (chunk: Uint8Array) => {
    body.pause();
    came.push(chunk);
    wake();
  });
  try {
    for (;;) {
      const chunk = came.shift();
      if (chunk !== undefined) {
        yield chunk;
        continue;
      }
      if (over?.error != null) throw over.error;
      if (over !== undefined) return;
      const news = new Promise<void>((resolve) => {
        wake = resolve;
      });
      body.resume();
      await news;
    }
  } finally {
    body.destroy();
  }
}
