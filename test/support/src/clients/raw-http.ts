import { once } from 'node:events';
import { connect } from 'node:net';

/** What a server wrote back before it closed the connection or fell silent. */
export interface RawAnswer {
  readonly text: string;
  /** Status of each answer on the connection, in order. */
  readonly statuses: readonly number[];
  readonly closed: boolean;
}

/** Sends bytes as they are over one connection and reads until the server closes it, or `quietMs` without a byte. */
export async function rawHttp(url: string, bytes: string | Buffer, quietMs = 1_500): Promise<RawAnswer> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  let text = '';
  let closed = false;
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    text += chunk;
  });
  const ended = new Promise<void>((resolve) => {
    socket.setTimeout(quietMs, () => resolve());
    socket.once('close', () => {
      closed = true;
      resolve();
    });
  });
  socket.write(bytes);
  await ended;
  socket.destroy();
  const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((found) => Number(found[1]));
  return { text, statuses, closed };
}
