import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { Bitfield } from '@sepia/base/bitfield';
import type { CodedError } from '@sepia/base/errors';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { fc } from '@sepia/test-support/property';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { WIRE_LIMITS } from '../../src/limits.ts';
import { HANDSHAKE_BYTES } from '../../src/wire/frames.ts';
import { HardenedWire } from '../../src/wire/wire.ts';
import type { WireInit, WireOwner } from '../../src/wire/wire-owner.ts';

const KEY = new Uint8Array(32).fill(3);
const SWARM = new Uint8Array(20).fill(4);
const SIZE = 20 * PIECE_BYTES;

/** A socket in memory: what is written goes to `other`, or is only recorded. */
class Pipe extends Duplex {
  other: Pipe | undefined;
  written: Buffer[] = [];
  tamper: (chunk: Buffer) => Buffer = (chunk) => chunk;

  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.written.push(chunk);
    this.other?.push(this.tamper(chunk));
    done();
  }
  setTimeout(): this {
    return this;
  }
}

interface Seen {
  ready: boolean;
  errors: (CodedError | undefined)[];
  closed: boolean;
  requests: number;
  blocks: number;
  /** One entry a message. */
  haves: number[][];
  bitfields: Bitfield[];
}

function end(
  role: 'dialer' | 'listener',
  pipe: Pipe,
  change: Partial<WireInit> = {},
): { wire: HardenedWire; seen: Seen } {
  const seen: Seen = {
    ready: false,
    errors: [],
    closed: false,
    requests: 0,
    blocks: 0,
    haves: [],
    bitfields: [],
  };
  const owner: WireOwner = {
    onSwarm: () => ({ sizeBytes: SIZE }),
    onReady: () => {
      seen.ready = true;
    },
    onBitfield: (pieces) => seen.bitfields.push(pieces),
    onHaves: (indexes) => seen.haves.push([...indexes]),
    onSuggest: () => {},
    onRequest: () => {
      seen.requests += 1;
    },
    onCancel: () => {},
    onBlock: (_index, _offset, _count, done) => {
      if (done) seen.blocks += 1;
    },
    onReject: () => {},
    onDrain: () => {},
    onClosed: (_gone, error) => {
      seen.closed = true;
      seen.errors.push(error);
    },
  };
  const wire = new HardenedWire({
    socket: pipe as unknown as Socket,
    role,
    clusterKey: KEY,
    peerId: new Uint8Array(20).fill(role === 'dialer' ? 1 : 2),
    origin: false,
    zone: '',
    ...(role === 'dialer' ? { swarm: { id: SWARM, sizeBytes: SIZE } } : {}),
    owner,
    ...change,
  });
  return { wire, seen };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

async function pair(change: Partial<WireInit> = {}) {
  const a = new Pipe();
  const b = new Pipe();
  a.other = b;
  b.other = a;
  const listener = end('listener', b, change);
  const dialer = end('dialer', a);
  for (let i = 0; i < 8; i++) await settle();
  return { a, b, dialer, listener };
}

/** A message: length, id, body. */
function frame(id: number, ...body: number[]): Buffer {
  const bytes = Buffer.alloc(5 + body.length);
  bytes.writeUInt32BE(1 + body.length, 0);
  bytes[4] = id;
  bytes.set(body, 5);
  return bytes;
}

function numbers(id: number, ...values: number[]): Buffer {
  const bytes = Buffer.alloc(5 + values.length * 4);
  bytes.writeUInt32BE(1 + values.length * 4, 0);
  bytes[4] = id;
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 5 + i * 4);
  return bytes;
}

t.test('two members prove the key and exchange a block', async (t) => {
  const { dialer, listener } = await pair();
  t.ok(dialer.seen.ready && listener.seen.ready);
  listener.wire.sendBitfield(Bitfield.full(20));
  const target = new Uint8Array(WIRE_LIMITS.memberBlockBytes);
  dialer.wire.sendRequest(3, 0, target);
  await settle();
  t.equal(dialer.seen.bitfields[0]?.count, 20);
  t.equal(listener.seen.requests, 1);
  const bytes = new Uint8Array(randomBytes(target.length));
  listener.wire.sendBlock(3, 0, bytes);
  await settle();
  t.equal(dialer.seen.blocks, 1);
  t.ok(Buffer.compare(target, bytes) === 0);
  dialer.wire.goodbye('dropped');
  listener.wire.goodbye('dropped');
});

t.test('another key, a forged proof, a replayed one: closed before anything is served', async (t) => {
  const wrong = await pair({ clusterKey: new Uint8Array(32).fill(9) });
  t.equal(wrong.dialer.seen.ready || wrong.listener.seen.ready, false);
  t.ok(wrong.dialer.seen.closed && wrong.listener.seen.closed);
  t.equal(
    [...wrong.dialer.seen.errors, ...wrong.listener.seen.errors].find((error) => error !== undefined)?.code,
    'WIRE_INVALID',
  );

  const first = await pair();
  const said = Buffer.concat(first.a.written);
  first.dialer.wire.goodbye('dropped');
  first.listener.wire.goodbye('dropped');
  const pipe = new Pipe();
  const victim = end('listener', pipe);
  pipe.push(said);
  await settle();
  t.equal(victim.seen.ready, false);
  t.equal(victim.seen.errors[0]?.code, 'WIRE_INVALID');
});

t.test('an oversize length, also ≥ 2^31, closes the wire before a byte is kept', async (t) => {
  for (const length of [WIRE_LIMITS.memberMessageBytes + 1, 2 ** 31, 2 ** 32 - 1]) {
    const { a, b, dialer, listener } = await pair();
    const head = Buffer.alloc(4);
    head.writeUInt32BE(length);
    a.write(head);
    await settle();
    t.equal(listener.seen.errors[0]?.code, 'WIRE_INVALID', `${length}`);
    dialer.wire.goodbye('dropped');
    t.ok(b.destroyed);
  }
});

const INVALID: Record<string, Buffer> = {
  'bitfield too short': frame(5, 255),
  'bitfield spare bits': frame(5, 255, 255, 255),
  'have out of range': numbers(4, 20),
  'request beyond the piece': numbers(6, 0, PIECE_BYTES - 1024, 2048),
  'request too long': numbers(6, 0, 0, 2 ** 31),
  'request of nothing': numbers(6, 0, 0, 0),
  'piece not asked for': Buffer.concat([numbers(7, 0, 0, 1)]),
  'short request': frame(6, 0, 0),
  'unknown id': frame(99),
  'second proof': frame(20, 1, ...new Uint8Array(32)),
  'second extension handshake': frame(20, 0, 0x64, 0x65),
  'have batch of odd length': frame(20, 2, 1, 2, 3),
};
for (const [name, bytes] of Object.entries(INVALID)) {
  t.test(`${name} closes the wire with WIRE_INVALID`, async (t) => {
    const { a, dialer, listener } = await pair();
    a.write(bytes);
    await settle();
    t.equal(listener.seen.errors[0]?.code, 'WIRE_INVALID');
    dialer.wire.goodbye('dropped');
  });
}

t.test('a second bitfield closes the wire', async (t) => {
  const { a, dialer, listener } = await pair();
  a.write(frame(5, 255, 255, 240));
  a.write(frame(5, 255, 255, 240));
  await settle();
  t.equal(listener.seen.bitfields.length, 1);
  t.equal(listener.seen.errors[0]?.code, 'WIRE_INVALID');
  dialer.wire.goodbye('dropped');
});

t.test('a request flood: 64 are queued, the rest is rejected', async (t) => {
  const { a, b, dialer, listener } = await pair();
  b.written = [];
  for (let i = 0; i < 1_000; i++) a.write(numbers(6, i % 20, 0, 16_384));
  await settle();
  t.equal(listener.seen.requests, WIRE_LIMITS.queuedRequests);
  t.equal(b.written.length, 1_000 - WIRE_LIMITS.queuedRequests);
  dialer.wire.goodbye('dropped');
  listener.wire.goodbye('dropped');
});

t.test('a member that falls silent is closed, however much is written to it', async (t) => {
  const { listener } = await pair({ limits: { ...WIRE_LIMITS, keepAliveMs: 5, idleMs: 40 } });
  await until(() => listener.seen.closed, 'the wire is closed');
  t.match(listener.seen.errors[0], { code: 'TIMEOUT', message: 'peer is silent' });
});

t.test('a HAVE goes at once, those that follow in one batch', async (t) => {
  const { dialer, listener } = await pair();
  const follow = Array.from({ length: 18 }, (_, index) => 1 + index);
  for (const index of [0, ...follow]) dialer.wire.sendHave(index);
  await settle();
  t.same(listener.seen.haves[0], [0]);
  await until(() => listener.seen.haves.length === 2, 'those that follow are told');
  t.same(listener.seen.haves[1], follow);
  dialer.wire.sendHave(19);
  await until(() => listener.seen.haves.length === 3, 'and the next');
  t.same(listener.seen.haves[2], [19]);
  dialer.wire.goodbye('dropped');
  listener.wire.goodbye('dropped');
});

t.test('random bytes and mutated streams never throw and never keep more than a message', async (t) => {
  const sample = await pair();
  sample.dialer.wire.sendBitfield(new Bitfield(20));
  sample.dialer.wire.sendRequest(1, 0, new Uint8Array(16_384));
  await settle();
  const valid = Buffer.concat(sample.a.written);
  sample.dialer.wire.goodbye('dropped');
  sample.listener.wire.goodbye('dropped');
  const check = (bytes: Uint8Array, cuts: number[]): boolean => {
    const { wire, seen } = end('listener', new Pipe());
    let at = 0;
    for (const cut of [...cuts, bytes.length]) {
      wire._write(bytes.subarray(at, at + cut), () => {});
      at += cut;
    }
    const fine = seen.errors.every(
      (error) =>
        error === undefined ||
        (error.code === 'WIRE_INVALID' && error.cause === undefined) ||
        error.message.includes('bencode'),
    );
    wire.goodbye('dropped');
    return fine && seen.requests <= WIRE_LIMITS.queuedRequests && !seen.ready;
  };
  const cuts = fc.array(fc.nat(100), { maxLength: 10 });
  const limit = { interruptAfterTimeLimit: 4_000, numRuns: 3_000 };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 500 }), cuts, check), limit);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
      cuts,
      (changes, at) => {
        const bytes = new Uint8Array(valid);
        for (const [position, value] of changes) bytes[position] = value;
        return check(bytes, at);
      },
    ),
    limit,
  );
  t.pass('no throw');
});

t.test('an extension handshake that would be read for ever ends the wire', async (t) => {
  const sample = await pair();
  const handshake = Buffer.concat(sample.a.written).subarray(0, HANDSHAKE_BYTES);
  sample.dialer.wire.goodbye('dropped');
  sample.listener.wire.goodbye('dropped');
  for (const hello of ['l-3:', 'd-3:', 'd1:md-3:ee']) {
    const { wire, seen } = end('listener', new Pipe());
    wire._write(Buffer.concat([handshake, frame(20, 0, ...Buffer.from(hello))]), () => {});
    t.match(seen.errors, [{ code: 'WIRE_INVALID', message: /is not bencode/ }], hello);
  }
});

t.test('a proven member that sends rubbish is closed, never thrown at', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(22), fc.uint8Array({ maxLength: 40 })), { maxLength: 8 }),
      async (messages) => {
        const { dialer, listener } = await pair();
        for (const [id, body] of messages) listener.wire._write(frame(id, ...body), () => {});
        const fine = listener.seen.errors.every(
          (error) => error === undefined || (error.code === 'WIRE_INVALID' && error.cause === undefined),
        );
        dialer.wire.goodbye('dropped');
        listener.wire.goodbye('dropped');
        return fine;
      },
    ),
    { interruptAfterTimeLimit: 4_000, numRuns: 500 },
  );
  t.pass('no throw');
});
