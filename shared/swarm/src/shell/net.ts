import {
  connect,
  createServer,
  type LookupFunction,
  type Server,
  type ServerOpts,
  type Socket,
} from 'node:net';
import { connect as connectTls } from 'node:tls';
import { CodedError } from '@sepia/base/errors';
import { type HostPort, parseHostPort } from '@sepia/base/host-port';
import { bindError } from '@sepia/http/listener';
import type { MemberEncryption } from '@sepia/http/tls/cluster-encryption';
import { TlsOrPlain } from '@sepia/http/tls/tls-or-plain';
import { Unproven } from '../core/unproven.ts';
import { UNPROVEN_WIRES, WIRE_LIMITS } from '../limits.ts';
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

/** Who may have opened an accepted socket: anyone, or standard BitTorrent clients alone. */
export type Audience = 'anyone' | 'strangers';
/** What becomes of a dial, once. */
type Dialled = (socket: Socket | undefined, error?: CodedError) => void;

/** How an engine reaches others, and they it. What stands in place of TCP must lend its chunks no longer than TCP does. */
export interface SwarmNet {
  /** As {@link listen}. */
  listen(address: string, onSocket: (socket: Socket, audience?: Audience) => void): Promise<Listener>;
  /** As {@link dial}; `toStranger`: a standard BitTorrent client, which knows no encryption of ours. */
  dial(address: string, timeoutMs: number, done: Dialled, toStranger?: boolean): () => void;
}

/**
 * Listens on `host:port` or `[v6]:port`. All sockets of the swarm are made in this file, so that TLS can go under it.
 * A chunk of `data` is lent to those who listen at the end of `onSocket`: its memory is gone after the event.
 * @throws {CodedError} `START_FAILED` if the address cannot be had
 */
async function listen(address: string, onSocket: (socket: Socket) => void): Promise<Listener> {
  return await listening({ noDelay: true, pauseOnConnect: true }, address, (given) => {
    const { socket, listenersAreOn } = acceptShared(given);
    socket.on('error', () => {});
    onSocket(socket);
    listenersAreOn();
  });
}

async function listening(
  options: ServerOpts,
  address: string,
  onSocket: (socket: Socket) => void,
): Promise<Listener> {
  const { host, port } = endOf(address);
  const server: Server = createServer(options, onSocket);
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
function dial(address: string, timeoutMs: number, done: Dialled, lookup?: LookupFunction): () => void {
  const { host, port } = endOf(address);
  const names = lookup === undefined ? {} : { lookup };
  const socket: Socket = connect({ host, port, ...names, noDelay: true, onread: sharedRead(() => socket) });
  return untilConnected(socket, 'connect', { address, timeoutMs }, done);
}

function untilConnected(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  { address, timeoutMs }: { readonly address: string; readonly timeoutMs: number },
  done: Dialled,
): () => void {
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
  socket.once(event, () => end());
  return () => {
    if (!open) return;
    open = false;
    clearTimeout(timer);
    socket.destroy();
  };
}

/** Sockets of this machine; `lookup` finds the addresses of names, default: as the system does. */
export function tcpNet(lookup?: LookupFunction): SwarmNet {
  return { listen, dial: (address, timeoutMs, done) => dial(address, timeoutMs, done, lookup) };
}

/** Sockets of this machine; names are looked up as the system does. */
export const TCP: SwarmNet = tcpNet();

/** As {@link TCP}, for members of a cluster whose document encrypts them; standard clients stay without. */
export function encryptedNet(
  encryption: MemberEncryption,
  onFailed: (error: Error, address: string) => void = () => undefined,
  lookup?: LookupFunction,
): SwarmNet {
  const { client, server, isRequired } = encryption;
  const plainAudience: Audience = isRequired ? 'strangers' : 'anyone';
  return {
    listen: async (address, onSocket) => {
      // Those of whom nobody knows yet what they speak have places of their own, as many as those who then have to prove the key.
      const places = new Unproven<Socket>(UNPROVEN_WIRES);
      const sorted = new TlsOrPlain(server, WIRE_LIMITS.handshakeMs, {
        onPlain: (socket) => onSocket(socket, plainAudience),
        onSecure: (socket) => onSocket(socket),
        onSorted: (socket) => places.delete(socket),
        onFailed,
      });
      const listener = await listening({ noDelay: true }, address, (socket) => {
        const from = socket.remoteAddress ?? '';
        const entry = places.admit(from);
        if (entry.type === 'refuse') {
          socket.destroy();
          return;
        }
        if (entry.instead !== undefined) {
          places.delete(entry.instead);
          entry.instead.destroy();
        }
        places.add(socket, from);
        socket.once('close', () => places.delete(socket));
        sorted.take(socket);
      });
      return {
        ...listener,
        close: async () => {
          const closed = listener.close();
          sorted.cutUnsorted();
          await closed;
        },
      };
    },
    dial: (address, timeoutMs, done, toStranger = false) => {
      if (client === undefined || toStranger) return dial(address, timeoutMs, done, lookup);
      const { host, port } = endOf(address);
      const names = lookup === undefined ? {} : { lookup };
      const socket = connectTls({ ...client, ...names, host, port });
      socket.setNoDelay(true);
      return untilConnected(socket, 'secureConnect', { address, timeoutMs }, done);
    },
  };
}

/** @throws {CodedError} `REQUEST_INVALID` for anything but `host:port` */
function endOf(address: string): HostPort {
  const end = parseHostPort(address);
  if (end === undefined)
    throw new CodedError('REQUEST_INVALID', { message: `not host:port: ${address.slice(0, 200)}` });
  return end;
}
