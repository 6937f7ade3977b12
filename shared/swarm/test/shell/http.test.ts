import { CodedError } from '@sepia/base/errors';
import { PIECE_BYTES as MIB } from '@sepia/metainfo/tree';
import t, { type Test } from 'tap';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import type { HttpSource } from '../../src/swarm.ts';
import { start } from '../support/core.ts';
import { completed, joinLeech, MemoryStore, makeBlob, startMember } from '../support/members.ts';

const blob = makeBlob(4 * MIB);
const good: HttpSource = {
  id: 'good',
  has: () => true,
  fetchPiece: async (index) => blob.bytes.slice(index * MIB, (index + 1) * MIB),
};

async function download(t: Test, sources: readonly HttpSource[]) {
  const agent = await startMember('agent');
  t.teardown(() => agent.engine.stop());
  const pieces = new MemoryStore(blob.bytes.length);
  const swarm = joinLeech(agent, blob, pieces);
  const reader = swarm.openReader(0);
  swarm.onPiece(() => reader.move(Math.max(0, pieces.have.nextMissing(0))));
  const startMs = performance.now();
  swarm.setHttpSources(sources);
  await completed(swarm);
  t.ok(Buffer.compare(pieces.bytes, blob.bytes) === 0);
  t.equal(agent.engine.slabsTaken, 0);
  return performance.now() - startMs;
}

t.test('an HTTP source that never answers is doubled by another, and given up', async (t) => {
  let aborted = 0;
  const hung: HttpSource = {
    id: 'hung',
    has: () => true,
    fetchPiece: (_index, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          aborted += 1;
          reject(signal.reason);
        });
      }),
  };
  const tookMs = await download(t, [hung, good]);
  t.ok(tookMs < CORE_LIMITS.hungMs, `took ${tookMs} ms`);
  t.ok(aborted > 0, 'its fetches were taken back');
});

t.test('what an HTTP source left under way when it failed ends', async (t) => {
  let aborted = 0;
  let fails = 0;
  const left: HttpSource = {
    id: 'left',
    has: () => true,
    fetchPiece: async (index, signal, onBytes) => {
      if (fails > 0) return await good.fetchPiece(index, signal, onBytes);
      fails += 1;
      signal.addEventListener('abort', () => {
        aborted += 1;
      });
      throw new CodedError('PEER_HTTP', { message: 'it is waited for no longer' });
    },
  };
  await download(t, [left]);
  t.equal(aborted, 1);
});

t.test('an HTTP source alone that is silent for long is asked again', async (t) => {
  const { core, tell } = start({ limits: { hungMs: 1_000 }, knows: (index) => index === 0 });
  const link = core.drawLink();
  tell({ type: 'httpUp', link, has: () => true });
  const asked: number[] = [];
  let cancelled = 0;
  for (let atMs = 250; atMs <= 8_000; atMs += 250) {
    for (const effect of tell({ type: 'timer', key: 'tick' }, atMs)) {
      if (effect.type === 'cancel') cancelled += 1;
      if (effect.type === 'fetch') asked.push(atMs);
    }
  }
  t.ok(cancelled >= 1 && asked.length >= 1, `cancelled ${cancelled}, asked again at ${asked.join()}`);
});

t.test('a slow HTTP source that tells its bytes is not stalled', async (t) => {
  const { core, tell } = start({ knows: (index) => index === 0 });
  const slow = core.drawLink();
  tell({ type: 'httpUp', link: slow, has: () => true });
  const other = core.drawLink();
  tell({ type: 'httpUp', link: other, has: () => true });
  tell({ type: 'reader', reader: 0, index: 0 });
  const first = core.links.get(slow)!.fetches.size === 1 ? slow : other;
  for (let atMs = 250; atMs <= 3_000; atMs += 250) {
    tell({ type: 'progress', link: first, index: 0, bytes: 50_000 }, atMs);
    tell({ type: 'timer', key: 'tick' }, atMs);
    t.equal(core.links.get(first)!.stalled, false);
  }
});

t.test('a source that throws, or gives too little, is paused; another brings the piece', async (t) => {
  let failures = 0;
  const broken: HttpSource = {
    id: 'broken',
    has: () => true,
    fetchPiece: async (_index, _signal, onBytes) => {
      failures += 1;
      onBytes(100);
      if (failures % 2 === 0) throw new Error('reset');
      return new Uint8Array(100);
    },
  };
  await download(t, [broken, good]);
  t.ok(failures >= 1);
});
