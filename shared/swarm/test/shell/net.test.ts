import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t from 'tap';
import { dial, listen } from '../../src/shell/net.ts';

const BYTES = 4 * 1024 * 1024;

/** What byte `at` of the stream is. */
const byteAt = (at: number): number => (at * 31 + (at >> 8)) & 255;

function patterned(): Buffer {
  return Buffer.from(Uint8Array.from({ length: BYTES }, (_, at) => byteAt(at)));
}

/** Reads to the end; pauses for a while at every chunk. True if all bytes were right and nothing came while paused. */
async function readSlowly(socket: Socket): Promise<boolean> {
  let at = 0;
  let right = true;
  socket.on('data', (chunk: Buffer) => {
    right &&= !socket.isPaused();
    for (const byte of chunk) right &&= byte === byteAt(at++);
    socket.pause();
    setImmediate(() => setImmediate(() => socket.resume()));
  });
  await once(socket, 'end');
  return right && at === BYTES;
}

t.test('a dialled socket that is paused gets nothing, then all of it and the end', async (t) => {
  const listener = await listen('127.0.0.1:0', (socket) => socket.end(patterned()));
  const socket = await new Promise<Socket>((resolve, reject) => {
    dial(`127.0.0.1:${listener.port}`, 5_000, (found, error) => (found ? resolve(found) : reject(error)));
  });
  t.ok(await readSlowly(socket));
  socket.destroy();
  await listener.close();
});

t.test('two dialled sockets share a read buffer without seeing each other', async (t) => {
  const listener = await listen('127.0.0.1:0', (socket) => socket.end(patterned()));
  const both = [1, 2].map(
    async () =>
      await new Promise<boolean>((resolve, reject) => {
        dial(`127.0.0.1:${listener.port}`, 5_000, (found, error) =>
          found ? resolve(readSlowly(found)) : reject(error),
        );
      }),
  );
  t.strictSame(await Promise.all(both), [true, true]);
  await listener.close();
});

t.test(
  'a chunk of an accepted socket is whole during the event, and its memory is free afterwards',
  async (t) => {
    const chunks: Buffer[] = [];
    let reading: Promise<boolean> | undefined;
    const accepted = Promise.withResolvers<void>();
    const listener = await listen('127.0.0.1:0', (socket) => {
      reading = readSlowly(socket);
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      accepted.resolve();
    });
    const client = connect(listener.port, '127.0.0.1');
    client.end(patterned());
    await accepted.promise;
    t.ok(await reading);
    t.ok(chunks.length > 1);
    t.ok(chunks.every((chunk) => chunk.byteLength === 0));
    client.destroy();
    await listener.close();
  },
);
