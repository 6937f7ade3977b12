import { connect, createServer, type Server, type Socket } from 'node:net';
import { CodedError } from '@sepia/base/errors';
import { type HostPort, parseHostPort } from '@sepia/base/host-port';
import { bindError } from '@sepia/http/listener';
import { acceptShared, sharedRead } from './read-buffer.ts';

/** Connections that a listening engine takes at once; more wait in the kernel. */
const MAX_CONNECTIONS = 1_024;

/** A listening socket. `port` is the real one when 0 was asked for. */
export interface Listener {
  readonly address: string;
  readonly port: number;
  /** Stops listening; open connections are not touched. Idempotent. */
  close(): Promise<void>;
}

/** How an engine reaches others, and they it. What stands in place of TCP must lend its chunks no longer than TCP does. */
export interface SwarmNet {
  /** As {@link listen}. */
  listen(address: string, onSocket: (socket: Socket) => void): Promise<Listener>;
  /** As {@link dial}. */
  dial(
    address: string,
    timeoutMs: number,
    done: (socket: Socket | undefined, error?: CodedError) => void,
  ): () => void;
}

/**
 * Listens on `host:port` or `[v6]:port`. All sockets of the swarm are made in this file, so that TLS can go under it.
 * A chunk of `data` is lent to those who listen at the end of `onSocket`: its memory is gone after the event.
 * @throws {CodedError} `START_FAILED` if the address cannot be had
 */
async function listen(address: string, onSocket: (socket: Socket) => void): Promise<Listener> {
  const { host, port } = endOf(address);
  const server: Server = createServer({ noDelay: true, pauseOnConnect: true }, (given) => {
    const { socket, listenersAreOn } = acceptShared(given);
    socket.on('error', () => {});
    onSocket(socket);
    listenersAreOn();
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(bindError(cause, 'peer-listen', address)));
    server.listen(port, host, resolve);
  });
  server.on('error', () => {});
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new TypeError('not a TCP address');
  return {
    address: host,
    port: bound.port,
    close: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

/**
 * Dials `host:port`. `done` is called once: with the connected socket, or with an error. Returns a function that gives
 * up. A chunk of the socket's `data` is lent until the event ends; one without a listener is lost.
 */
function dial(
  address: string,
  timeoutMs: number,
  done: (socket: Socket | undefined, error?: CodedError) => void,
): () => void {
  const { host, port } = endOf(address);
  const socket: Socket = connect({ host, port, noDelay: true, onread: sharedRead(() => socket) });
  let open = true;
  const timer = setTimeout(
    () => end(new CodedError('TIMEOUT', { message: `no connection to ${address}` })),
    timeoutMs,
  );
  const end = (error?: CodedError): void => {
    if (!open) return;
    open = false;
    clearTimeout(timer);
    if (error !== undefined) socket.destroy();
    done(error === undefined ? socket : undefined, error);
  };
  socket.on('error', (cause) =>
    end(new CodedError('TIMEOUT', { message: `no connection to ${address}`, cause })),
  );
  socket.once('connect', () => end());
  return () => {
    if (!open) return;
    open = false;
    clearTimeout(timer);
    socket.destroy();
  };
}

/** Sockets of this machine. */
export const TCP: SwarmNet = { listen, dial };

/** @throws {CodedError} `REQUEST_INVALID` for anything but `host:port` */
function endOf(address: string): HostPort {
  const end = parseHostPort(address);
  if (end === undefined)
    throw new CodedError('REQUEST_INVALID', { message: `not host:port: ${address.slice(0, 200)}` });
  return end;
}
