import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';

/** First byte of a TLS handshake (RFC 8446 5.1); neither HTTP nor BitTorrent begins with it. */
const HANDSHAKE = 22;

interface Sorted {
  readonly onPlain: (socket: Socket) => void;
  readonly onSecure: (socket: TLSSocket) => void;
  /** It is known what `socket` speaks. */
  readonly onSorted?: (socket: Socket) => void;
  /** A handshake came to nothing; its connection is cut. */
  readonly onFailed?: (error: Error, address: string) => void;
}

/**
 * Sorts connections of one port by their first byte, which stays unread: what begins a TLS handshake is handed on when
 * that is done, anything else as it came. Who says nothing, or does not end its handshake within `handshakeMs`, is cut.
 */
export class TlsOrPlain {
  readonly #server: Server;
  readonly #onPlain: (socket: Socket) => void;
  readonly #onSorted: Sorted['onSorted'];
  readonly #handshakeMs: number;
  /** Connections of which nobody knows yet. */
  readonly #unsorted = new Map<string, Socket>();

  constructor(options: TlsOptions, handshakeMs: number, { onPlain, onSecure, onSorted, onFailed }: Sorted) {
    this.#onPlain = onPlain;
    this.#onSorted = onSorted;
    this.#handshakeMs = handshakeMs;
    this.#server = createServer({ ...options, handshakeTimeout: handshakeMs });
    this.#server.on('secureConnection', (socket) => {
      this.#sort(otherEnd(socket));
      socket.on('error', () => socket.destroy());
      onSecure(socket);
    });
    this.#server.on('tlsClientError', (error, socket) => {
      // One that has gone away has no address any more, and left of itself.
      if (socket.remoteAddress !== undefined) onFailed?.(error, socket.remoteAddress);
      socket.destroy();
    });
  }

  /** Handshakes that begin from now on use these certificates. */
  renew(options: TlsOptions): void {
    this.#server.setSecureContext(options);
  }

  /** Cuts those of whom nothing is known yet. */
  cutUnsorted(): void {
    for (const socket of this.#unsorted.values()) socket.destroy();
  }

  #sort(end: string): void {
    const socket = this.#unsorted.get(end);
    this.#unsorted.delete(end);
    if (socket !== undefined) this.#onSorted?.(socket);
  }

  /** Takes a connection that nobody has read from. */
  take(socket: Socket): void {
    const cut = (): void => void socket.destroy();
    socket.setTimeout(this.#handshakeMs, cut);
    const look = (): void => {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) {
        // Nothing yet, or its end.
        if (!socket.readableEnded && !socket.destroyed) socket.once('readable', look);
        return;
      }
      // From here on who has it looks after it: an end may be the end of a request alone.
      socket.off('timeout', cut).off('end', cut).setTimeout(0);
      socket.unshift(chunk);
      if (chunk[0] === HANDSHAKE) {
        // Who leaves in the middle of a handshake is gone.
        socket.allowHalfOpen = false;
        this.#server.emit('connection', socket);
        return;
      }
      this.#sort(end);
      this.#onPlain(socket);
    };
    // One that is gone already has no other end.
    if (socket.remoteAddress === undefined) return void socket.destroy();
    const end = otherEnd(socket);
    this.#unsorted.set(end, socket);
    socket.once('close', () => this.#unsorted.delete(end));
    socket.on('error', cut);
    socket.once('end', cut);
    socket.once('readable', look);
  }
}

/** The other end: one connection of a port at a time, whatever object stands for it. */
export function otherEnd({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}
