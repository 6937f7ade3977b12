import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { infoHashOf, v1PieceHash } from '@sepia/metainfo/torrent';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import t, { type Test } from 'tap';
import { plainHandshake } from '../../src/wire/wire-messages.ts';
import { joinSeed, makeBlob, startMember } from '../support/members.ts';

const HAVE_ALL = Buffer.from([0, 0, 0, 1, 14]);
const KEEP_ALIVE = Buffer.alloc(4);

/** A member that seeds a blob to whoever comes, and how to greet it. */
async function seeder(t: Test) {
  const blob = makeBlob(PIECE_BYTES);
  const facts = { digest: blob.digest, sizeBytes: PIECE_BYTES, pieces: v1PieceHash(blob.bytes) };
  const infoHash = Buffer.from(infoHashOf(facts), 'hex');
  const member = await startMember('seeder');
  joinSeed(member, blob).admitStrangers(infoHash, 60_000);
  const [host, port] = member.address.addresses[0]!.split(':');
  const sockets = new Set<Socket>();
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await member.engine.stop();
  });
  const dial = async (): Promise<Socket> => {
    const socket = connect({ host: host!, port: Number(port), allowHalfOpen: true });
    socket.on('error', () => undefined);
    sockets.add(socket);
    await once(socket, 'connect');
    return socket;
  };
  const greeting = (id: number): Uint8Array => plainHandshake(infoHash, new Uint8Array(20).fill(id));
  return { engine: member.engine, dial, greeting };
}

t.test('who is told goodbye and goes on sending is cut: it has no place, and holds up no stop', async (t) => {
  const { engine, dial, greeting } = await seeder(t);
  const socket = await dial();
  socket.write(greeting(1));
  // Two that have everything have nothing to say to each other.
  socket.write(HAVE_ALL);
  socket.resume();
  await once(socket, 'end');
  const drip = setInterval(() => socket.write(KEEP_ALIVE), 20);
  t.teardown(() => clearInterval(drip));
  await engine.stop();
  t.pass('nothing is left of it at the member');
});
