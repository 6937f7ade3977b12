import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { Bitfield } from '@sepia/base/bitfield';
import type { CodedError } from '@sepia/base/errors';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { WIRE_LIMITS } from '../../src/limits.ts';
import { StrangerWire } from '../../src/wire/stranger-wire.ts';

const HASH = new Uint8Array(20).fill(4);
const PIECES = 20;
const BLOCK = 16_384;

/** A socket in memory that keeps what is written to it. */
class Sink extends Duplex {
  written: Buffer[] = [];
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.written.push(Buffer.from(chunk));
    done();
  }
  setTimeout(): this {
    return this;
  }
}

function open() {
  const socket = new Sink();
  const seen = {
    ready: 0,
    errors: [] as (CodedError | undefined)[],
    requests: 0,
    rejected: [] as string[],
    haves: [] as number[],
    bitfields: [] as Bitfield[],
    chokes: [] as boolean[],
    interests: [] as boolean[],
    blocks: 0,
  };
  const wire = new StrangerWire({
    socket: socket as unknown as Socket,
    role: 'listener',
    peerId: new Uint8Array(20).fill(1),
    infoHash: HASH,
    sizeBytes: PIECES * PIECE_BYTES,
    owner: {
      onReady: () => {
        seen.ready += 1;
      },
      onBitfield: (pieces) => seen.bitfields.push(pieces),
      onHaves: (indexes) => seen.haves.push(...indexes),
      onSuggest: () => {},
      onRequest: () => {
        seen.requests += 1;
      },
      onCancel: () => {},
      onBlock: (_index, _offset, _count, done) => {
        if (done) seen.blocks += 1;
      },
      onReject: (index, offset) => seen.rejected.push(`${index}:${offset}`),
      onDrain: () => {},
      onClosed: (_gone, error) => seen.errors.push(error),
      onChoke: (on) => seen.chokes.push(on),
      onInterest: (on) => seen.interests.push(on),
    },
  });
  /** Messages that were sent, in hex, without length and handshake. */
  const sent = async (): Promise<string[]> => {
    await new Promise((resolve) => setImmediate(resolve));
    const bytes = Buffer.concat(socket.written);
    const found: string[] = [];
    for (let at = 68; at < bytes.length; ) {
      const length = bytes.readUInt32BE(at);
      found.push(bytes.toString('hex', at + 4, at + 4 + length));
      at += 4 + length;
    }
    return found;
  };
  return { wire, seen, sent };
}

function hello(fast: boolean, infoHash = HASH): Buffer {
  const bytes = Buffer.alloc(68);
  bytes.write('\x13BitTorrent protocol', 0, 'latin1');
  bytes[27] = fast ? 4 : 0;
  bytes.set(infoHash, 28);
  bytes.fill(7, 48);
  return bytes;
}

function frame(id: number, ...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(5 + numbers.length * 4);
  bytes.writeUInt32BE(bytes.length - 4);
  bytes[4] = id;
  for (const [i, value] of numbers.entries()) bytes.writeUInt32BE(value, 5 + i * 4);
  return bytes;
}

function raw(id: number, ...body: number[]): Buffer {
  const bytes = Buffer.from([0, 0, 0, 0, id, ...body]);
  bytes.writeUInt32BE(1 + body.length);
  return bytes;
}

t.test('the fast extension is spoken only with those who offer it', async (t) => {
  const plain = open();
  plain.wire.receive(hello(false));
  plain.wire.sendBitfield(Bitfield.full(PIECES));
  t.equal(plain.seen.ready, 1);
  t.same(await plain.sent(), [], 'a bitfield is no answer any more once the handshake is over');
  plain.wire.receive(frame(14));
  t.equal(plain.seen.errors[0]?.code, 'WIRE_INVALID');

  const fast = open();
  fast.wire.receive(hello(true));
  t.same(await fast.sent(), ['0f'], 'have none, since nothing was told');
  fast.wire.receive(frame(14));
  t.equal(fast.seen.bitfields[0]?.complete, true);
  fast.wire.goodbye('dropped');
});

t.test(
  'a request is served only after unchoke; a crossing one is rejected where that can be said',
  async (t) => {
    for (const isFast of [false, true]) {
      const { wire, seen, sent } = open();
      wire.receive(hello(isFast));
      wire.receive(frame(6, 3, 0, BLOCK));
      t.equal(seen.requests, 0);
      wire.choke(false);
      wire.choke(false);
      wire.receive(frame(6, 3, 0, BLOCK));
      t.equal(seen.requests, 1);
      const told = (await sent()).filter((message) => message !== '0f');
      t.same(told.slice(0, -1), isFast ? [frame(16, 3, 0, BLOCK).toString('hex', 4)] : []);
      t.equal(told.at(-1), '01', 'unchoke once');
      wire.goodbye('dropped');
    }
  },
);

t.test('choke drops our requests; a block on its way is taken and thrown away', async (t) => {
  const { wire, seen } = open();
  wire.receive(hello(false));
  t.equal(wire.requestLimit, 0, 'choked at first');
  wire.receive(frame(1));
  const target = new Uint8Array(BLOCK);
  wire.sendRequest(2, 0, target);
  wire.sendRequest(2, BLOCK, new Uint8Array(BLOCK));
  const head = Buffer.alloc(13);
  head.writeUInt32BE(9 + BLOCK);
  head[4] = 7;
  head.writeUInt32BE(2, 5);
  wire.receive(Buffer.concat([frame(0), head, Buffer.alloc(BLOCK, 9)]));
  t.same(seen.rejected, ['2:0', `2:${BLOCK}`]);
  t.same(seen.chokes, [false, true]);
  t.equal(seen.blocks, 0);
  t.equal(target[0], 0, 'memory that was taken back is not written');
  t.same(seen.errors, []);
  wire.receive(Buffer.concat([head, Buffer.alloc(BLOCK, 9)]));
  t.equal(seen.errors[0]?.code, 'WIRE_INVALID', 'a second time it was not asked for');
});

t.test('a later bitfield tells more pieces, as aria2 sends it in place of many HAVEs', async (t) => {
  const { wire, seen } = open();
  wire.receive(Buffer.concat([hello(true), frame(15), frame(4, 2), raw(5, 255, 255, 240)]));
  t.same(seen.errors, []);
  t.same(
    seen.bitfields.map((one) => one.count),
    [0, PIECES],
  );
  wire.goodbye('dropped');
});

t.test('no more requests wait than the limit says', async (t) => {
  const { wire, seen } = open();
  wire.receive(hello(true));
  wire.choke(false);
  for (let i = 0; i < WIRE_LIMITS.strangerRequests + 100; i++) wire.receive(frame(6, i % PIECES, 0, BLOCK));
  t.equal(seen.requests, WIRE_LIMITS.strangerRequests);
  wire.goodbye('dropped');
});

const INVALID: Record<string, Buffer> = {
  'a bitfield of another length': raw(5, 255),
  'spare bits': raw(5, 255, 255, 255),
  'a piece that is not there': frame(4, PIECES),
  'a block above 16 KiB': frame(6, 0, 0, 2 * BLOCK),
  'a block beyond the piece': frame(6, 0, PIECE_BYTES - 1, 2),
  'a block that nobody asked for': Buffer.concat([frame(7, 0, 0), Buffer.alloc(1)]),
  'a long message': Buffer.from([0, 1, 0, 0]),
  'a length of 2^32 - 1': Buffer.from([255, 255, 255, 255]),
  'a short request': raw(6, 1),
  'an unknown message': raw(99),
};
for (const [name, bytes] of Object.entries(INVALID)) {
  t.test(`${name} closes the wire`, async (t) => {
    const { wire, seen } = open();
    wire.receive(hello(true));
    wire.choke(false);
    wire.receive(
      name.startsWith('a block that') ? Buffer.from([0, 0, 0, 10, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1]) : bytes,
    );
    t.equal(seen.errors[0]?.code, 'WIRE_INVALID');
    t.ok(wire.line.closed);
  });
}

t.test('another torrent, our own id, no BitTorrent: closed', async (t) => {
  const own = hello(false);
  own.fill(1, 48);
  for (const bytes of [hello(false, new Uint8Array(20)), own, Buffer.alloc(68)]) {
    const { wire, seen } = open();
    wire.receive(bytes);
    t.equal(seen.ready, 0);
    t.equal(seen.errors[0]?.code, 'WIRE_INVALID');
  }
});

t.test('whatever a stranger sends, nothing throws and nothing grows', async (t) => {
  const valid = Buffer.concat([
    hello(true),
    raw(5, 255, 255, 240),
    frame(2),
    frame(1),
    frame(4, 3),
    frame(6, 3, 0, BLOCK),
    frame(8, 3, 0, BLOCK),
    frame(16, 3, 0, BLOCK),
    raw(20, 0, 0x64, 0x65),
    raw(9, 1, 2),
  ]);
  const check = (bytes: Uint8Array, cuts: number[]): boolean => {
    const { wire, seen } = open();
    wire.receive(bytes.subarray(0, Math.min(68, bytes.length)));
    if (wire.line.ready) {
      wire.choke(false);
      wire.sendRequest(1, 0, new Uint8Array(BLOCK));
    }
    let at = Math.min(68, bytes.length);
    for (const cut of [...cuts, bytes.length]) {
      wire.receive(bytes.subarray(at, at + cut));
      at += cut;
    }
    const fine = seen.errors.every((error) => error === undefined || error.code === 'WIRE_INVALID');
    wire.goodbye('dropped');
    return fine && seen.requests <= WIRE_LIMITS.strangerRequests && seen.errors.length === 1;
  };
  const cuts = fc.array(fc.nat(50), { maxLength: 10 });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), cuts, check), { numRuns: 1_000 });
  const tail = fc.uint8Array({ maxLength: 300 });
  fc.assert(
    fc.property(tail, cuts, (bytes, at) => check(Buffer.concat([hello(true), bytes]), at)),
    { numRuns: 1_000 },
  );
  const change = fc.tuple(fc.nat(valid.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { maxLength: 6 }), cuts, (changes, at) => {
      const bytes = Uint8Array.from(valid);
      for (const [position, value] of changes) bytes[position] = value;
      return check(bytes, at);
    }),
    { numRuns: 1_000 },
  );
  t.pass('no throw');
});
