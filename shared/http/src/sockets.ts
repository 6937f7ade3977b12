import type { RequestListener, Server } from 'node:http';
import type { LookupFunction, OnReadOpts, Socket } from 'node:net';
import { type ConnectionOptions, getCACertificates } from 'node:tls';
import { keepRead, READ_BUFFER } from '@sepia/base/chunk';
import type { buildConnector as Connect, Dispatcher } from 'undici';
import { InterimAnswers } from './core/interim-answers.ts';
import {
  CLIENT_KEEP_ALIVE_MS,
  CONNECT_MS,
  FOREIGN_NAME_KEPT_MS,
  REQUEST_HEADER_MS,
  SERVER_KEEP_ALIVE_MS,
} from './deadlines/sockets.ts';
import { Agent, buildConnector, Pool, ProxyAgent } from './loaded/undici.ts';
import { atEachAddress, type FurtherAddresses, inTurn } from './names/in-turn.ts';
import { LastingNames } from './names/lasting-names.ts';
import type { MemberEncryption } from './tls/cluster-encryption.ts';
import { type ListenerTls, notePlain } from './tls/listener-tls.ts';
import { TlsOrPlain } from './tls/tls-or-plain.ts';

/** Not by `import`: that reads every export of the module, and with `WebSocket` loads Node's own client of HTTP for nothing. */
const { createServer } = process.getBuiltinModule('node:http');

/** Largest request header block taken, in bytes. */
export const MAX_HEADER_BYTES = 32 * 1024;
/** Largest header block of an answer read, in bytes; clients in other languages read as much of servers that set many policies. */
const MAX_ANSWER_HEADER_BYTES = 256 * 1024;

/** A server, and how to end connections that it has not been given yet. */
export interface MadeServer {
  readonly server: Server;
  readonly cutUnsorted: () => void;
}

/** The one place where this process's HTTP listeners are made. With `tls` each connection may begin a handshake or not. */
export function createHttpServer(listener: RequestListener, tls?: ListenerTls): MadeServer {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      keepAliveTimeout: SERVER_KEEP_ALIVE_MS,
      noDelay: true,
      // Node would answer without a body; the gate demands it as well.
      requireHostHeader: false,
    },
    listener,
  );
  server.requestTimeout = 0;
  server.headersTimeout = REQUEST_HEADER_MS;
  server.maxRequestsPerSocket = 0;
  return { server, cutUnsorted: tls === undefined ? () => undefined : putUnder(server, tls) };
}

/** Puts TLS between a server and its connections: what Node would do with one is done when it is known what it speaks. */
function putUnder(server: Server, tls: ListenerTls): () => void {
  const serve = server.listeners('connection') as ((socket: Socket) => void)[];
  const serveAll = (socket: Socket): void => {
    for (const one of serve) one.call(server, socket);
  };
  let options = tls.options();
  const sorted = new TlsOrPlain(options, REQUEST_HEADER_MS, {
    onPlain: (socket) => {
      notePlain(socket, tls.plain);
      serveAll(socket);
    },
    onSecure: serveAll,
    onFailed: (error, address) => tls.noteFailed(error, address),
  });
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    const now = tls.options();
    if (now !== options) sorted.renew(now);
    options = now;
    sorted.take(socket);
  });
  return () => sorted.cutUnsorted();
}

interface ClientSocketOptions {
  /** Sockets per host. */
  readonly connections?: number;
  readonly connectTimeoutMs?: number;
  /** PEM certificates trusted beside the system's. */
  readonly ca?: string;
  readonly insecure?: boolean;
  /** Certificate of this client and its key, PEM. */
  readonly certificate?: string;
  readonly key?: string;
  /** Finds the addresses of a host name; what it gives is what is dialled. */
  readonly lookup?: LookupFunction;
  /** HTTP proxy through which every request goes, by CONNECT. */
  readonly proxy?: ProxyAddress;
  /**
   * Bodies are long and whoever reads them does not wait for others: as much is read at once as there is. Elsewhere, where
   * a body goes on to clients, it would lie in memory as long as one of them does not read.
   */
  readonly readsBodies?: boolean;
  /** For sockets to members alone: how the cluster encrypts them. Every connection, also of an `http:` URL, is encrypted so. */
  readonly encryption?: MemberEncryption | undefined;
  /** Further addresses of the member that is called. */
  readonly furtherAddresses?: FurtherAddresses | undefined;
}

/** How members are dialled: encryption, further addresses, names; part of the options of every client that calls members. */
export type MemberDialling = Pick<ClientSocketOptions, 'encryption' | 'furtherAddresses' | 'lookup'>;

/** An HTTP proxy between a client and what it calls: `http://host:port`, and the `Proxy-Authorization` for it. */
export interface ProxyAddress {
  readonly url: string;
  readonly authorization?: string | undefined;
}

/** Of whoever says nothing else. */
const NAMES = new LastingNames({
  nowMs: () => performance.now(),
  keptMs: FOREIGN_NAME_KEPT_MS,
  believesNone: true,
});

/** The one place where this process's HTTP clients get their sockets. Header and body timeouts are set per call. */
export function createDispatcher(options: ClientSocketOptions = {}): Dispatcher {
  const tls = {
    timeout: options.connectTimeoutMs ?? CONNECT_MS,
    ...(options.ca === undefined ? {} : { ca: [...getCACertificates('default'), options.ca] }),
    ...(options.insecure === true ? { rejectUnauthorized: false } : {}),
    ...(options.certificate === undefined ? {} : { cert: options.certificate }),
    ...(options.key === undefined ? {} : { key: options.key }),
  };
  const { lookup = NAMES.lookup } = options;
  const common = {
    connections: options.connections ?? 64,
    keepAliveTimeout: CLIENT_KEEP_ALIVE_MS,
    keepAliveMaxTimeout: CLIENT_KEEP_ALIVE_MS,
    headersTimeout: 0,
    bodyTimeout: 0,
    pipelining: 1,
    maxHeaderSize: MAX_ANSWER_HEADER_BYTES,
  };
  const { proxy } = options;
  if (proxy === undefined)
    return new Agent({
      ...common,
      connect: withoutInterim(
        inTurn(atEachAddress(connectorFor(options, tls), lookup), options.furtherAddresses),
      ),
    });
  if (options.encryption?.client !== undefined)
    throw new TypeError('members are not reached by an HTTP proxy');
  const { url: uri, authorization: token } = proxy;
  const proxyTls = { timeout: tls.timeout, lookup };
  return new ProxyAgent({
    ...common,
    uri,
    ...(token === undefined ? {} : { token }),
    proxyTls,
    requestTls: tls,
    proxyTunnel: true,
    // What it is given connects through the tunnel.
    factory: (origin, made) => {
      const { connect } = made as { connect: Connect.connector };
      return new Pool(origin, { ...made, connect: withoutInterim(connect) });
    },
  });
}

/** A request's first line, as undici writes it in front of the headers. */
const REQUEST_LINE = /^[A-Z]+ \S+ HTTP\/1\.1\r\n/;

/** Connections on which nobody meets answers that are not final. */
function withoutInterim(connector: Connect.connector): Connect.connector {
  return (to, done) =>
    connector(to, (...[error, socket]) => {
      if (error !== null) return done(error, null);
      skipInterim(socket);
      done(null, socket);
    });
}

/** undici reads and writes a socket by these two calls. */
function skipInterim(socket: Socket): void {
  const interim = new InterimAnswers();
  const read = socket.read.bind(socket) as (size?: number) => Buffer | null;
  const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
  socket.read = (size?: number): Buffer | null => {
    for (;;) {
      const chunk = read(size);
      if (chunk === null) return null;
      const rest = interim.rest(chunk);
      if (rest !== undefined) return rest;
    }
  };
  socket.write = (...args: unknown[]): boolean => {
    if (typeof args[0] === 'string' && REQUEST_LINE.test(args[0])) interim.asked();
    return write(...args);
  };
}

function connectorFor(
  { encryption, readsBodies }: ClientSocketOptions,
  tls: Connect.BuildOptions,
): Connect.connector {
  if (encryption?.client !== undefined) return toMembers(encryption.client, tls);
  return readsBodies === true ? connectorOf(tls) : buildConnector(tls);
}

/** Members are dialled by TLS whatever their URL says: the cluster key is what they show. */
function toMembers(client: ConnectionOptions, { timeout }: Connect.BuildOptions): Connect.connector {
  const options = { ...client, timeout, maxCachedSessions: 0 };
  const secure = buildConnector(options as Connect.BuildOptions);
  return (to, done) => {
    const port = to.port || (to.protocol === 'https:' ? '443' : '80');
    secure({ ...to, port, protocol: 'https:' }, done);
  };
}

/** A plain connection is read 256 KiB at once; TLS gives no more than 16, and is read as Node does. */
function connectorOf(options: Connect.BuildOptions): Connect.connector {
  const plain = buildConnector({ ...options, onread: READS } as Connect.BuildOptions);
  const secure = buildConnector(options);
  return (to, done) => (to.protocol === 'https:' ? secure : plain)(to, done);
}

const READS: OnReadOpts = {
  buffer: READ_BUFFER,
  callback(this: Socket, count) {
    return this.push(keepRead(count));
  },
};

/** Sockets to other members by what goes over them: however much lasts, a question never queues behind it, nor what is read behind what is sent. */
export interface MemberSockets {
  /** For questions. */
  readonly dispatcher: Dispatcher;
  /** For bodies that are read, and for those that are sent. */
  readonly bodies: Dispatcher;
  readonly sends: Dispatcher;
  /** For what is waited for: long-polls, and what an upstream is asked for first. */
  readonly waits: Dispatcher;
}

/**
 * Sockets for what is waited for, per host: one that waits for a registry that hangs does so for a minute and costs nothing else, and is
 * to hold up none of what waits for another registry. As many blobs are fetched at once by an origin.
 */
const WAITS = 512;

type MemberSocketOptions = Pick<
  ClientSocketOptions,
  'connections' | 'connectTimeoutMs' | keyof MemberDialling
> & {
  /** As `connections`, for bodies that are sent, and for what is waited for. */
  readonly sends?: number;
  readonly waits?: number;
};

/** Sockets of each kind, so many per host of each. */
export function createMemberSockets({ sends, waits = WAITS, ...options }: MemberSocketOptions = {}): {
  readonly sockets: MemberSockets;
  destroy(): Promise<void>;
} {
  const sockets = {
    dispatcher: createDispatcher(options),
    bodies: createDispatcher(options),
    sends: createDispatcher(sends === undefined ? options : { ...options, connections: sends }),
    waits: createDispatcher({ ...options, connections: waits }),
  };
  return {
    sockets,
    destroy: async () => {
      await Promise.all(Object.values(sockets).map(async (one) => await one.destroy()));
    },
  };
}

export type { Dispatcher };
