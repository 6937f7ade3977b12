import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { TCP } from '../../src/shell/net.ts';
import { acceptShared } from '../../src/shell/read-buffer.ts';

const { dial, listen } = TCP;

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

t.test('accepted sockets read into the memory that dialled ones read into, paused or not', async (t) => {
  const buffers = new Set<ArrayBufferLike>();
  const readings: Promise<boolean>[] = [];
  const listener = await listen('127.0.0.1:0', (socket) => {
    t.equal(socket.remoteAddress, '127.0.0.1');
    readings.push(readSlowly(socket));
    socket.on('data', (chunk: Buffer) => buffers.add(chunk.buffer));
  });
  const clients = [1, 2].map(() => connect(listener.port, '127.0.0.1').end(patterned()));
  await Promise.all(clients.map(async (client) => await once(client, 'close')));
  t.strictSame(await Promise.all(readings), [true, true]);
  t.equal(buffers.size, 1, 'this version of Node lets a new socket take over the connection');
  await listener.close();
});

t.test('a listener that closes waits for the connections that it accepted, and for no others', async (t) => {
  let accepted: Socket | undefined;
  const listener = await listen('127.0.0.1:0', (socket) => {
    accepted = socket;
  });
  const client = connect(listener.port, '127.0.0.1');
  await until(() => accepted !== undefined, 'a connection');
  let closed = false;
  const closing = listener.close().then(() => {
    closed = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  t.notOk(closed);
  accepted!.destroy();
  await closing;
  client.destroy();
});

t.test('where a socket is another inside, it is used as it is, and its chunks are freed', async (t) => {
  const chunks: Buffer[] = [];
  const done = Promise.withResolvers<boolean>();
  const server = createServer({ pauseOnConnect: true }, (given) => {
    Object.assign(given, { _server: undefined });
    const { socket, listenersAreOn } = acceptShared(given);
    t.equal(socket, given);
    readSlowly(socket).then(done.resolve, done.reject);
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    listenersAreOn();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  client.end(patterned());
  t.ok(await done.promise);
  t.ok(chunks.length > 1);
  t.ok(chunks.every((chunk) => chunk.byteLength === 0));
  client.destroy();
  server.close();
});
