// One host of `n16-floor`: moves bytes as a member of a swarm must, in plain Node, without a protocol, and says what it used.
import { createHash, hash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { createServer as createHttpServer, type ServerResponse } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

const PIECE_BYTES = 2 ** 20;
const LEAF_BYTES = 2 ** 14;
/** Pieces of memory; a socket fills one, and takes another while that is hashed, written and given to the client. */
const SLABS = 48;
const SEND = Buffer.alloc(PIECE_BYTES / 4, 7);

/** What a host is told on its command line, as JSON. */
export interface FloorNode {
  readonly address: string;
  readonly port: number;
  /** Hosts that it gets `shareBytes` from. */
  readonly sources: readonly string[];
  readonly shareBytes: number;
  /** So many sources at the same time. */
  readonly atOnce: number;
  /** Where what it gets is written; left out at a host that only sends. */
  readonly file?: string;
  /** Where its client reads, on its loopback. */
  readonly clientPort: number;
  readonly isHashed: boolean;
  readonly isWritten: boolean;
}

const node = JSON.parse(process.argv[2] ?? '{}') as FloorNode;
let client: ServerResponse | undefined;
const slabs = Array.from({ length: SLABS }, () => Buffer.alloc(PIECE_BYTES, 1));
const waiting: ((slab: Buffer<ArrayBuffer>) => void)[] = [];

createServer((socket) => void send(socket)).listen(node.port, node.address);
createHttpServer((_, response) => {
  client = response;
  const bytes = node.sources.length * node.shareBytes;
  response.writeHead(200, { 'content-length': bytes });
  void receiveAll().then(() => response.end());
}).listen(node.clientPort, '127.0.0.1', () => process.stdout.write('ready\n'));
createInterface(process.stdin).once('close', () => process.exit(0));

async function send(socket: Socket): Promise<void> {
  socket.on('error', () => undefined).resume();
  for (let sent = 0; sent < node.shareBytes; sent += SEND.length)
    await new Promise((settle) => socket.write(SEND, settle));
  socket.end();
}

async function receiveAll(): Promise<void> {
  const file = await open(node.file!, 'w+');
  const done = async (slab: Buffer<ArrayBuffer>, at: number): Promise<void> => {
    if (node.isHashed) hashTree(slab);
    await Promise.all([
      node.isWritten ? file.write(slab, 0, PIECE_BYTES, at) : undefined,
      new Promise((settle) => client!.write(slab, settle)),
    ]);
    const next = waiting.shift();
    if (next === undefined) slabs.push(slab);
    else next(slab);
  };
  const shares = node.sources.entries();
  const take = async (): Promise<void> => {
    for (const [index, host] of shares) await receive(host, index * node.shareBytes, done);
  };
  await Promise.all(Array.from({ length: node.atOnce }, take));
  await file.close();
}

function hashTree(piece: Buffer): void {
  const root = createHash('sha256');
  for (let leaf = 0; leaf < PIECE_BYTES; leaf += LEAF_BYTES)
    root.update(hash('sha256', piece.subarray(leaf, leaf + LEAF_BYTES), 'buffer'));
  root.digest();
}

/** Gets a share into slabs. */
async function receive(
  host: string,
  begin: number,
  done: (slab: Buffer<ArrayBuffer>, at: number) => Promise<void>,
): Promise<void> {
  let slab = slabs.pop()!;
  let [filled, at] = [0, begin];
  const work: Promise<void>[] = [];
  await new Promise<void>((settle, fail) => {
    const onFull = (): void => {
      work.push(done(slab, at));
      at += PIECE_BYTES;
      filled = 0;
      if (at === begin + node.shareBytes) {
        settle();
        return;
      }
      const next = slabs.pop();
      if (next !== undefined) {
        slab = next;
        return;
      }
      socket.pause();
      waiting.push((free) => {
        slab = free;
        socket.resume();
      });
    };
    const socket = connect({
      port: node.port,
      host,
      onread: {
        buffer: () => slab.subarray(filled),
        callback: (bytes) => {
          filled += bytes;
          if (filled === PIECE_BYTES) onFull();
          return true;
        },
      },
    });
    socket.once('error', fail);
  });
  await Promise.all(work);
}
