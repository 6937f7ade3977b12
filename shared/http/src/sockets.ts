import { createServer, type RequestListener, type Server } from 'node:http';
import { getCACertificates } from 'node:tls';
import { Agent, type Dispatcher, ProxyAgent } from 'undici';

/** Largest request header block taken, in bytes. */
export const MAX_HEADER_BYTES = 32 * 1024;
/** Server keep-alive; longer than {@link CLIENT_KEEP_ALIVE_MS}, so that a client never reuses a socket that is being closed. */
const SERVER_KEEP_ALIVE_MS = 75_000;
const CLIENT_KEEP_ALIVE_MS = 30_000;
const HEADERS_TIMEOUT_MS = 30_000;
/** A request whose socket carries nothing for this long is cut; there is no limit on the whole request (Harbor sends one 30-minute PUT). */
export const IDLE_PROGRESS_MS = 60_000;

/** The one place where this process's HTTP listeners are made: TLS goes under here. */
export function createHttpServer(listener: RequestListener): Server {
  const server = createServer(
    { maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: SERVER_KEEP_ALIVE_MS, noDelay: true },
    listener,
  );
  server.requestTimeout = 0;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.maxRequestsPerSocket = 0;
  return server;
}

interface ClientSocketOptions {
  /** Sockets per host. */
  readonly connections?: number;
  readonly connectTimeoutMs?: number;
  /** PEM certificates trusted beside the system's. */
  readonly ca?: string;
  readonly insecure?: boolean;
  /** HTTP proxy through which every request goes, by CONNECT: `http://host:port`. */
  readonly proxy?: string;
}

/** The one place where this process's HTTP clients get their sockets. Header and body timeouts are set per call. */
export function createDispatcher(options: ClientSocketOptions = {}): Dispatcher {
  const tls = {
    timeout: options.connectTimeoutMs ?? 3_000,
    ...(options.ca === undefined ? {} : { ca: [...getCACertificates('default'), options.ca] }),
    ...(options.insecure === true ? { rejectUnauthorized: false } : {}),
  };
  const common = {
    connections: options.connections ?? 64,
    keepAliveTimeout: CLIENT_KEEP_ALIVE_MS,
    keepAliveMaxTimeout: CLIENT_KEEP_ALIVE_MS,
    headersTimeout: 0,
    bodyTimeout: 0,
    pipelining: 1,
  };
  if (options.proxy === undefined) return new Agent({ ...common, connect: tls });
  return new ProxyAgent({ ...common, uri: options.proxy, requestTls: tls, proxyTunnel: true });
}

export type { Dispatcher };
