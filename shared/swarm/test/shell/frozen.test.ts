import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import type { PeerAddress, Swarm } from '../../src/swarm.ts';
import { blobOf, completed, fixedBytes, joinLeech, MemoryStore, startMember } from '../support/members.ts';

const PIECES = 32;
const SIZE_BYTES = PIECES * 2 ** 20;
const blob = blobOf(fixedBytes(SIZE_BYTES));

async function seeder(t: Test, name: string, role: 'peer' | 'origin') {
  const file = new URL('../support/seeder-child.ts', import.meta.url);
  const child: ChildProcess = fork(file, [name, role, String(SIZE_BYTES)], { execArgv: [] });
  t.teardown(async () => {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  });
  const [address] = (await once(child, 'message')) as [PeerAddress];
  return { child, address };
}

/** Resolves when `peerId` brought so many whole pieces. */
async function brought(swarm: Swarm, peerId: string, pieces: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const off = swarm.onPiece(() => {
      const link = swarm.stats().links.find((one) => one.peerId === peerId);
      if ((link?.downBytes ?? 0) < pieces * 2 ** 20) return;
      off();
      resolve();
    });
  });
}

/**
 * Downloads from two seeders, of which `freeze` stops the first in mid-transfer. Returns how long it took, ms; undefined: the
 * second brought all the rest before the first, which had no core meanwhile, could be stopped.
 */
async function download(t: Test, role: 'peer' | 'origin', freeze: boolean): Promise<number | undefined> {
  const first = await seeder(t, `first-${role}-${freeze}`, role);
  const second = await seeder(t, `second-${role}-${freeze}`, 'peer');
  const agent = await startMember(`agent-${role}-${freeze}`);
  t.teardown(() => agent.engine.stop());
  const pieces = new MemoryStore(SIZE_BYTES);
  const swarm = joinLeech(agent, blob, pieces);
  // The reader stands where a piece is missing, as a client's does.
  const reader = swarm.openReader(0);
  swarm.onPiece(() => reader.move(Math.max(0, pieces.have.nextMissing(0))));
  const startMs = performance.now();
  const done = completed(swarm);
  swarm.addPeers([first.address]);
  await brought(swarm, first.address.peerId, 2);
  swarm.addPeers([second.address]);
  if (freeze) {
    const middle = brought(swarm, first.address.peerId, 4).then(() => true);
    if (!(await Promise.race([middle, done.then(() => false)]))) return undefined;
    first.child.kill('SIGSTOP');
  }
  await done;
  const tookMs = performance.now() - startMs;
  t.ok(Buffer.compare(pieces.bytes, blob.bytes) === 0, 'right bytes');
  return tookMs;
}

for (const role of ['peer', 'origin'] as const) {
  t.test(`the process of ${role === 'peer' ? 'a peer' : 'an origin'} freezes in mid-transfer`, async (t) => {
    const calmMs = (await download(t, role, false))!;
    const frozenMs = await until(async () => await download(t, role, true), 'one froze in mid-transfer');
    const addedMs = Math.round(frozenMs - calmMs);
    t.comment(`${Math.round(calmMs)} ms; frozen: ${Math.round(frozenMs)} ms, ${addedMs} ms added`);
    // A busy machine takes its time for both.
    t.ok(addedMs <= 5_000 + calmMs, `${addedMs} ms added`);
  });
}
