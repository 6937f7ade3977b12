import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import t from 'tap';
import { WIRE_LIMITS } from '../../src/limits.ts';
import { BlockBuffers } from '../../src/shell/block-buffers.ts';
import { StrangerLinks } from '../../src/shell/stranger-links.ts';
import { StrangerRoom } from '../../src/shell/stranger-room.ts';
import { plainHandshake } from '../../src/wire/wire-messages.ts';
import type { LinkOwner } from '../../src/wire/wire-owner.ts';

const HASH = new Uint8Array(20).fill(4);
/** As much of a handshake as says which torrent is meant. */
const GREETING = plainHandshake(HASH, new Uint8Array(20)).subarray(0, 48);

/** A connection of a host, in memory. */
class Connection extends Duplex {
  readonly remoteAddress = '192.0.2.1';
  readonly remotePort: number;
  constructor(remotePort: number) {
    super();
    this.remotePort = remotePort;
  }
  override _read(): void {}
  override _write(_chunk: Buffer, _encoding: string, done: () => void): void {
    done();
  }
  setTimeout(): this {
    return this;
  }
}

t.test('strangers that have not shaken hands yet have no more places than others', async (t) => {
  const none = (): void => undefined;
  const owner = { events: { onClosed: none, onDrain: none, onBlock: none }, onReady: none };
  const links = new StrangerLinks({
    room: new StrangerRoom({ members: { usedBytes: 0 }, buffers: new BlockBuffers(1) }),
    peerId: new Uint8Array(20).fill(1),
    sizeBytes: PIECE_BYTES,
    drawLink: () => 0,
    dial: none,
    isWelcome: () => true,
    mostWires: 3,
    ownerOf: () => owner as unknown as LinkOwner,
    linkOf: () => undefined,
    onChoke: none,
    isWanting: () => false,
    onOpen: none,
  });
  links.admit(HASH, 60_000);
  const dialled = Array.from({ length: 10 }, (_none, port) => new Connection(port + 1));
  for (const one of dialled) links.accept(one as unknown as Socket, GREETING);
  const taken = dialled.filter((one) => !one.destroyed);
  t.equal(taken.length, 3);

  taken[0]!.destroy();
  await new Promise((resolve) => taken[0]!.once('close', resolve));
  const later = new Connection(99);
  links.accept(later as unknown as Socket, GREETING);
  t.notOk(later.destroyed, 'who leaves makes room');
  links.close();
});

t.test('strangers share their rate in turn, whoever began', async (t) => {
  const room = new StrangerRoom(
    { members: { usedBytes: 0 }, buffers: new BlockBuffers(1) },
    { slots: 8, bytesPerSec: 8 * PIECE_BYTES },
  );
  t.teardown(() => room.stop());
  // Each time somebody else is served; how much that one takes depends on how late the machine is.
  const turns: string[] = [];
  const { promise: enough, resolve } = Promise.withResolvers<void>();
  const wishes = ['a', 'b', 'c'].map((name) => {
    const ask = (): void => {
      while (turns.length < 7 && room.take(PIECE_BYTES, ask)) if (turns.at(-1) !== name) turns.push(name);
      if (turns.length === 7) resolve();
    };
    return ask;
  });
  for (const ask of wishes) ask();
  await enough;
  t.same(turns, ['a', 'b', 'c', 'a', 'b', 'c', 'a']);
});

t.test('a stranger that leaves keeps nobody waiting', async (t) => {
  const bytes = WIRE_LIMITS.uploadReadBytes;
  const room = new StrangerRoom(
    { members: { usedBytes: 0 }, buffers: new BlockBuffers(1) },
    { slots: 8, bytesPerSec: bytes / 2 },
  );
  t.teardown(() => room.stop());
  const { promise: woken, resolve } = Promise.withResolvers<void>();
  const leaves = (): void => void t.fail('it left');
  t.ok(room.take(bytes, leaves));
  t.notOk(room.take(bytes, leaves));
  room.forget(leaves);
  t.notOk(room.take(bytes, resolve));
  await woken;
  t.ok(room.take(bytes, resolve));
});
