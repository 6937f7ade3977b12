import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Bencoded, bdecode } from './bdecode.ts';

const BLOCK = 16_384;

/** A torrent file as a client reads it. */
export interface ReadTorrent {
  readonly infoHash: Buffer;
  readonly name: string;
  readonly sizeBytes: number;
  readonly pieceBytes: number;
  readonly hashes: readonly Buffer[];
  readonly isPrivate: boolean;
  readonly announce: readonly string[];
  readonly webSeeds: readonly string[];
}

export function readTorrent(file: Buffer): ReadTorrent {
  const { value, spans } = bdecode(file);
  const torrent = value as Record<string, Bencoded>;
  const info = torrent['info'] as Record<string, Bencoded>;
  const [start, end] = spans.get('/info')!;
  const pieces = info['pieces'] as Buffer;
  const tiers = (torrent['announce-list'] as Buffer[][] | undefined) ?? [[torrent['announce'] as Buffer]];
  return {
    infoHash: createHash('sha1').update(file.subarray(start, end)).digest(),
    name: String(info['name']),
    sizeBytes: info['length'] as number,
    pieceBytes: info['piece length'] as number,
    hashes: Array.from({ length: pieces.length / 20 }, (_, at) => pieces.subarray(at * 20, at * 20 + 20)),
    isPrivate: info['private'] === 1,
    announce: tiers.flat().map(String),
    webSeeds: ((torrent['url-list'] as Buffer[] | undefined) ?? []).map(String),
  };
}

/** Announces, and reads the compact list of peers. @throws with the tracker's `failure reason` */
export async function announce(
  url: string,
  torrent: ReadTorrent,
  self: { readonly peerId: Buffer; readonly port: number; readonly left: number; readonly event?: string },
): Promise<{ host: string; port: number }[]> {
  const escaped = (bytes: Buffer): string => bytes.toString('hex').replace(/../g, '%$&');
  const query = `info_hash=${escaped(torrent.infoHash)}&peer_id=${escaped(self.peerId)}&port=${self.port}&uploaded=0&downloaded=0&left=${self.left}&compact=1&event=${self.event ?? 'started'}`;
  const answer = await fetch(`${url}${url.includes('?') ? '&' : '?'}${query}`);
  const found = bdecode(Buffer.from(await answer.arrayBuffer())).value as Record<string, Bencoded>;
  if (found['failure reason'] !== undefined) throw new Error(String(found['failure reason']));
  const compact = found['peers'] as Buffer;
  return Array.from({ length: compact.length / 6 }, (_, at) => ({
    host: [...compact.subarray(at * 6, at * 6 + 4)].join('.'),
    port: compact.readUInt16BE(at * 6 + 4),
  }));
}

/**
 * A small BitTorrent peer of its own (BEP 3, without any extension; `fast`: BEP 6 is offered): one file, one connection at a
 * time each way. Knows nothing of Sepia. What it serves may be twisted.
 */
export class StandardPeer {
  readonly peerId = Buffer.from(`-ZZ0001-${Math.random().toFixed(12).slice(2)}`);
  readonly torrent: ReadTorrent;
  readonly bytes: Buffer;
  readonly #has: Set<number>;
  readonly #fast: boolean;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  /** Pieces that were asked of it. */
  readonly served = new Set<number>();
  /** Changes what is sent. */
  twist: (index: number, block: Buffer) => Buffer = (_index, block) => block;

  constructor(torrent: ReadTorrent, options: { readonly full?: Buffer; readonly fast?: boolean } = {}) {
    this.torrent = torrent;
    this.bytes = options.full ?? Buffer.alloc(torrent.sizeBytes);
    this.#has = new Set(options.full === undefined ? [] : torrent.hashes.keys());
    this.#fast = options.fast ?? false;
  }

  get left(): number {
    return this.#has.size === this.torrent.hashes.length ? 0 : this.torrent.sizeBytes;
  }

  get isWhole(): boolean {
    return this.left === 0;
  }

  /** Listens on loopback; the port. */
  async listen(): Promise<number> {
    this.#server = createServer((socket) => void this.#talk(socket, true));
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as { port: number }).port;
  }

  /** Takes all that the other end gives; resolves when the file is whole or the other end is gone. */
  async fetchFrom(place: { readonly host: string; readonly port: number }): Promise<void> {
    const socket = connect(place);
    await once(socket, 'connect');
    await this.#talk(socket, false);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server?.close();
  }

  async #talk(socket: Socket, incoming: boolean): Promise<void> {
    this.#sockets.add(socket);
    const { infoHash, hashes } = this.torrent;
    const hello = Buffer.concat([
      Buffer.from('\x13BitTorrent protocol', 'latin1'),
      Buffer.from([0, 0, 0, 0, 0, 0, 0, this.#fast ? 4 : 0]),
      infoHash,
      this.peerId,
    ]);
    const send = (id: number, ...body: (number | Buffer)[]): void => {
      const parts = body.map((one) => {
        if (typeof one !== 'number') return one;
        const number = Buffer.alloc(4);
        number.writeUInt32BE(one);
        return number;
      });
      const tail = Buffer.concat([Buffer.from([id]), ...parts]);
      const head = Buffer.alloc(4);
      head.writeUInt32BE(tail.length);
      socket.write(Buffer.concat([head, tail]));
    };
    const theirs = new Set<number>();
    let asked: number | undefined;
    let got = 0;
    let choked = true;
    const next = (): void => {
      if (choked || asked !== undefined) return;
      asked = [...theirs].find((index) => !this.#has.has(index));
      got = 0;
      if (asked === undefined) return;
      const length = this.#lengthOf(asked);
      for (let at = 0; at < length; at += BLOCK) send(6, asked, at, Math.min(BLOCK, length - at));
    };
    if (!incoming) socket.write(hello);
    try {
      const read = reader(socket);
      const theirHello = await read(68);
      if (Buffer.compare(theirHello.subarray(28, 48), infoHash) !== 0) throw new Error('another torrent');
      if (incoming) socket.write(hello);
      const fast = this.#fast && (theirHello[27]! & 4) !== 0;
      if (fast && this.isWhole) send(14);
      else if (fast && this.#has.size === 0) send(15);
      else if (this.#has.size > 0) send(5, bitfieldOf(this.#has, hashes.length));
      send(2);
      for (;;) {
        const length = (await read(4)).readUInt32BE();
        if (length === 0) continue;
        const message = await read(length);
        const number = (at: number): number => message.readUInt32BE(at);
        if (message[0] === 0) choked = true;
        if (message[0] === 1) choked = false;
        if (message[0] === 2) send(1);
        if (message[0] === 4) theirs.add(number(1));
        if (message[0] === 5)
          for (const index of bitsOf(message.subarray(1), hashes.length)) theirs.add(index);
        if (message[0] === 14) for (const index of hashes.keys()) theirs.add(index);
        if (message[0] === 6) {
          const start = number(1) * this.torrent.pieceBytes + number(5);
          this.served.add(number(1));
          const block = this.bytes.subarray(start, start + number(9));
          send(7, number(1), number(5), this.twist(number(1), block));
        }
        if (message[0] === 7 && number(1) === asked) {
          message.subarray(9).copy(this.bytes, asked * this.torrent.pieceBytes + number(5));
          got += message.length - 9;
          if (got === this.#lengthOf(asked)) {
            this.#take(asked);
            send(4, asked);
            asked = undefined;
          }
        }
        if (message[0] === 0 || message[0] === 16) asked = undefined;
        if (!incoming && this.isWhole) break;
        next();
      }
    } catch (error) {
      if ((error as { code?: string }).code !== 'GONE') throw error;
    } finally {
      this.#sockets.delete(socket);
      socket.destroy();
    }
  }

  #take(index: number): void {
    const start = index * this.torrent.pieceBytes;
    const found = createHash('sha1')
      .update(this.bytes.subarray(start, start + this.#lengthOf(index)))
      .digest();
    if (Buffer.compare(found, this.torrent.hashes[index]!) !== 0) throw new Error(`piece ${index} is wrong`);
    this.#has.add(index);
  }

  #lengthOf(index: number): number {
    return Math.min(this.torrent.pieceBytes, this.torrent.sizeBytes - index * this.torrent.pieceBytes);
  }
}

/** Reads exactly so many bytes; rejects with code `GONE` when the other end is. */
function reader(socket: Socket): (bytes: number) => Promise<Buffer> {
  let buffer = Buffer.alloc(0);
  let wake = (): void => {};
  let gone = false;
  socket.on('data', (chunk: Buffer) => {
    buffer = Buffer.concat([buffer, chunk]);
    wake();
  });
  const end = (): void => {
    gone = true;
    wake();
  };
  socket.on('error', end).on('close', end).on('end', end);
  return async (bytes) => {
    while (buffer.length < bytes) {
      if (gone) throw Object.assign(new Error('the other end is gone'), { code: 'GONE' });
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    const taken = buffer.subarray(0, bytes);
    buffer = buffer.subarray(bytes);
    return taken;
  };
}

function bitfieldOf(has: ReadonlySet<number>, size: number): Buffer {
  const bytes = Buffer.alloc(Math.ceil(size / 8));
  for (const index of has) bytes[index >> 3]! |= 0x80 >> (index & 7);
  return bytes;
}

function bitsOf(bytes: Buffer, size: number): number[] {
  return Array.from({ length: size }, (_, index) => index).filter(
    (index) => (bytes[index >> 3]! & (0x80 >> (index & 7))) !== 0,
  );
}
