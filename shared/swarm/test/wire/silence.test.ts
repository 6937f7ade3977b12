import { EventEmitter } from 'node:events';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { watchSilence } from '../../src/wire/silence.ts';

class Peer extends EventEmitter {
  paused = false;
  bytesWritten = 0;
  writableLength = 0;
  isPaused(): boolean {
    return this.paused;
  }
}

/** A peer at a clock that stands still; `beat` waits for one keep-alive more, or for the end. */
function watched(t: Test) {
  const peer = new Peer();
  const state = { nowMs: 0, beats: 0, failed: [] as string[] };
  const timer = watchSilence(
    peer,
    { keepAliveMs: 1, idleMs: 90 },
    { keepAlive: () => void state.beats++, fail: (error) => void state.failed.push(error.message) },
    () => state.nowMs,
  );
  t.teardown(() => clearInterval(timer));
  const beat = async (): Promise<void> => {
    const { beats } = state;
    await until(() => state.beats > beats || state.failed.length > 0, 'a beat');
  };
  return { peer, state, beat };
}

t.test('what is written keeps nobody alive, what is heard does', async (t) => {
  const { peer, state, beat } = watched(t);
  for (let n = 0; n < 3; n++) {
    state.nowMs += 80;
    peer.emit('data', Buffer.alloc(4));
    peer.bytesWritten += 1_000;
    await beat();
  }
  t.same(state.failed, []);
  state.nowMs += 91;
  peer.bytesWritten += 1_000;
  await beat();
  t.equal(state.failed[0], 'peer is silent');
});

t.test('a peer that is not read from is alive as long as it takes something', async (t) => {
  const { peer, state, beat } = watched(t);
  peer.paused = true;
  peer.bytesWritten = 2_000_000;
  peer.writableLength = 2_000_000;
  for (let n = 0; n < 3; n++) {
    peer.writableLength -= 10;
    state.nowMs += 80;
    await beat();
    await beat();
  }
  t.same(state.failed, []);
  state.nowMs += 91;
  await beat();
  t.equal(state.failed[0], 'peer is silent');
});
