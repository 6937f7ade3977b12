import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { noteLostConnection } from '@sepia/base/connections/lost-connections';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { parseHostPort } from '@sepia/base/host-port';
import { openFiles, outOfFiles } from '@sepia/base/system/open-files';
import { DescriptorRoom } from './core/descriptor-room.ts';
import { ANSWER_MS, IDLE_PROGRESS_MS, REFUSED_MS } from './deadlines/sockets.ts';
import { SAFETY_HEADERS } from './safety-headers.ts';
import { createHttpServer, MAX_HEADER_BYTES, type MadeServer } from './sockets.ts';
import type { ListenerTls } from './tls/listener-tls.ts';
import { otherEnd } from './tls/tls-or-plain.ts';

interface HttpListenerOptions {
  /** Connections that carry nothing for so long are cut, but not while their client waits for an answer. */
  readonly idleMs?: number;
  /** Whether there are descriptors for one more; who comes when there are none is answered 503 `MEMBER_BUSY`. */
  readonly room?: Pick<DescriptorRoom, 'takes'>;
  /** TLS beside plain HTTP, or in place of it; see {@link ListenerTls}. */
  readonly tls?: ListenerTls | undefined;
}

/** So many clients at once are told that there is no descriptor for them, the others see their connection closed. */
const MOST_REFUSED = 8;
/** Requests of one connection that are under way at once: who sends more before it has its answers is cut. */
const MOST_UNANSWERED = 64;
/** Of all listeners of this process. */
const OWN_ROOM = new DescriptorRoom({ look: openFiles, nowMs: () => performance.now() });

/** A bound HTTP or HTTPS listener that can be drained: it takes nothing new then, and what is under way has some time to end. */
export class HttpListener {
  readonly #server: Server;
  readonly #cutUnsorted: () => void;
  readonly #scheme: 'http' | 'https';
  #stopping: Promise<void> | undefined;

  private constructor({ server, cutUnsorted }: MadeServer, scheme: 'http' | 'https') {
    this.#server = server;
    this.#cutUnsorted = cutUnsorted;
    this.#scheme = scheme;
  }

  /**
   * Binds `address` (`host:port`, port 0 = any). `key` names the config key in the error.
   * @throws {CodedError} `START_FAILED` when the port is taken or the address is not ours
   */
  static async start(
    listener: RequestListener,
    address: string,
    key: string,
    { idleMs = IDLE_PROGRESS_MS * 2, room = OWN_ROOM, tls }: HttpListenerOptions = {},
  ): Promise<HttpListener> {
    const target = parseHostPort(address);
    if (target === undefined)
      throw new CodedError('CONFIG_INVALID', { message: `${key}: "${address}" is not host:port` });
    const refused = new Set<string>();
    const running: Running = new WeakMap();
    const made = createHttpServer((req, res) => {
      const before = running.get(req.socket)?.unfinished.size ?? 0;
      if (refused.size > 0 && refused.has(otherEnd(req.socket))) refuseBusy(res);
      // Each may hold files and memory: what there is room for is counted by connections.
      else if (before >= MOST_UNANSWERED) {
        noteLostConnection('requests');
        req.socket.destroy();
      } else listener(req, res);
    }, tls);
    const { server } = made;
    // Not on the socket: after an answer Node gives a socket the server's timeout again, for each request anew.
    server.timeout = idleMs;
    server.on('connection', (socket) => {
      socket.on('error', () => socket.destroy());
      if (room.takes()) return;
      noteLostConnection('descriptors');
      holdRefused(socket, refused);
    });
    server.on('checkExpectation', (_req, res) => {
      const { headers, body } = refusal(invalid('only 100-continue can be expected'));
      res.writeHead(417, headers).end(body);
    });
    waitForAnswers(server, running, Math.ceil(ANSWER_MS / idleMs));
    server.on('clientError', (error, socket) => {
      const begun = [...(running.get(socket)?.unfinished ?? [])].some((res) => res.headersSent);
      // In the middle of a body nothing but its bytes may follow.
      if (begun) socket.destroy();
      else refuseUnread(error, socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) => reject(bindError(cause, key, address)));
      server.listen(target.port, target.host, resolve);
    });
    // Of a connection that the system did not hand over: who came tries again.
    server.removeAllListeners('error').on('error', (error) => {
      throwIfBug(error);
      noteLostConnection('system');
    });
    return new HttpListener(made, tls?.plain.strangers === false ? 'https' : 'http');
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get hostPort(): string {
    const { address, port, family } = this.#server.address() as AddressInfo;
    return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
  }

  get url(): string {
    return `${this.#scheme}://${this.hostPort}`;
  }

  /** Calls `listener` once, when nothing is served any more. */
  onStopped(listener: () => void): void {
    this.#server.once('close', listener);
  }

  /** Takes no new connections, waits for requests under way up to `graceMs`, then cuts. Idempotent. */
  stop(graceMs: number): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#cutUnsorted();
    this.#server.closeIdleConnections();
    const sweep = setInterval(() => this.#server.closeIdleConnections(), 50);
    const cut = setTimeout(() => this.#server.closeAllConnections(), graceMs);
    await closed;
    clearInterval(sweep);
    clearTimeout(cut);
  }
}

interface NewestRequest {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  waits: number;
  /** Of this request and of those before it on the same socket. */
  readonly unfinished: Set<ServerResponse>;
}

type Running = WeakMap<Duplex, NewestRequest>;

/**
 * A socket is silent while a route works on its answer, and that is no fault of the client: it is cut only where the client
 * has not sent its request, does not read on, or has waited `most` times over.
 */
function waitForAnswers(server: Server, running: Running, most: number): void {
  server.on('request', (req, res) => {
    const unfinished = running.get(req.socket)?.unfinished ?? unfinishedOf(req.socket);
    unfinished.add(res);
    const done = (): void => void unfinished.delete(res);
    res.once('finish', done).once('close', done);
    running.set(req.socket, { req, res, waits: 0, unfinished });
  });
  server.on('timeout', (socket) => {
    const one = running.get(socket);
    const waits = one?.req.complete === true && !one.res.headersSent && !one.res.destroyed;
    if (!waits || ++one.waits > most) socket.destroy();
    else socket.setTimeout(socket.timeout ?? 0);
  });
}

/** The answers that a connection waits for. When it closes Node tells the one whose turn it was; those behind it hear of it here. */
function unfinishedOf(socket: Socket): Set<ServerResponse> {
  const unfinished = new Set<ServerResponse>();
  socket.once('close', () => {
    for (const res of [...unfinished]) {
      if (res.socket !== null) continue;
      res.destroy();
      res.emit('close');
    }
  });
  return unfinished;
}

/** Says why before the connection closes: what could not be parsed reaches no route. */
function refuseUnread(error: Error, socket: Duplex): void {
  if (!socket.writable || systemCode(error) === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const code = systemCode(error);
  const [status, reason] =
    code === 'HPE_HEADER_OVERFLOW'
      ? ['431 Request Header Fields Too Large', `headers are larger than ${MAX_HEADER_BYTES} bytes`]
      : code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ['408 Request Timeout', 'headers did not arrive in time']
        : ['400 Bad Request', 'request is not valid HTTP'];
  const { headers, body } = refusal(invalid(reason));
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status}\r\n${lines.join('')}\r\n${body}`, () => socket.destroy());
}

/** Keeps a connection that is one too many until its request has come and is answered, for a moment. */
function holdRefused(socket: Socket, refused: Set<string>): void {
  if (refused.size >= MOST_REFUSED) {
    socket.destroy();
    return;
  }
  const end = otherEnd(socket);
  refused.add(end);
  const cut = setTimeout(() => socket.destroy(), REFUSED_MS);
  socket.once('close', () => {
    clearTimeout(cut);
    refused.delete(end);
  });
}

function refuseBusy(res: ServerResponse): void {
  const error = outOfFiles(undefined);
  const { headers, body } = refusal(error);
  res.writeHead(error.facts.status, { ...headers, 'Retry-After': '1' }).end(body);
}

function invalid(message: string): CodedError {
  return new CodedError('REQUEST_INVALID', { message });
}

/** The answer to what reaches no route, as a route would word it. */
function refusal({ code, facts, message }: CodedError): {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
} {
  const body = JSON.stringify({ errors: [{ code: facts.oci, message, detail: {} }] });
  const headers = {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': String(Buffer.byteLength(body)),
    'Sepia-Error': code,
    ...SAFETY_HEADERS,
    Connection: 'close',
  };
  return { headers, body };
}

/** Why an address cannot be bound, in words that name the config key and what to do. */
export function bindError(cause: unknown, key: string, address: string): CodedError {
  const code = systemCode(cause);
  const what =
    code === 'EADDRINUSE'
      ? 'is taken by another process; stop it or choose another port'
      : code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND'
        ? 'is not an address of this machine'
        : code === 'EACCES'
          ? 'needs more rights; choose a port above 1023'
          : `cannot be bound (${code})`;
  return new CodedError('START_FAILED', {
    message: `${key}: ${address} ${what}`,
    detail: { key, address },
    cause,
  });
}
