import type { RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { CodedError, systemCode } from '@sepia/base/errors';
import { parseHostPort } from '@sepia/base/host-port';
import { SAFETY_HEADERS } from './safety-headers.ts';
import { createHttpServer, IDLE_PROGRESS_MS, MAX_HEADER_BYTES } from './sockets.ts';

/** A bound HTTP listener that can be drained. */
export class HttpListener {
  readonly #server: Server;
  #stopping: Promise<void> | undefined;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * Binds `address` (`host:port`, port 0 = any). `key` names the config key in the error.
   * @throws {CodedError} `START_FAILED` when the port is taken or the address is not ours
   */
  static async start(listener: RequestListener, address: string, key: string): Promise<HttpListener> {
    const target = parseHostPort(address);
    if (target === undefined)
      throw new CodedError('CONFIG_INVALID', { message: `${key}: "${address}" is not host:port` });
    const server = createHttpServer(listener);
    server.on('connection', (socket) => {
      socket.setTimeout(IDLE_PROGRESS_MS * 2);
      socket.on('error', () => socket.destroy());
    });
    server.on('clientError', refuseUnread);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) => reject(bindError(cause, key, address)));
      server.listen(target.port, target.host, resolve);
    });
    return new HttpListener(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get hostPort(): string {
    const { address, port, family } = this.#server.address() as AddressInfo;
    return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
  }

  get url(): string {
    return `http://${this.hostPort}`;
  }

  /** Takes no new connections, waits for requests under way up to `graceMs`, then cuts. Idempotent. */
  stop(graceMs: number): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const sweep = setInterval(() => this.#server.closeIdleConnections(), 50);
    const cut = setTimeout(() => this.#server.closeAllConnections(), graceMs);
    await closed;
    clearInterval(sweep);
    clearTimeout(cut);
  }
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
  const body = JSON.stringify({ errors: [{ code: 'UNSUPPORTED', message: reason, detail: {} }] });
  const headers = {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': body.length,
    ...SAFETY_HEADERS,
    Connection: 'close',
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status}\r\n${lines.join('')}\r\n${body}`, () => socket.destroy());
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
