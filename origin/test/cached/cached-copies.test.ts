import { setImmediate } from 'node:timers/promises';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { ownersOf } from '@sepia/cluster/ring';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { CachedCopies } from '../../src/cached/cached-copies.ts';
import { cachedOwners } from '../../src/cached/core/cached-owners.ts';

const IDS = ['o1', 'o2', 'o3', 'o4', 'o5'];
const HOUR_MS = 3_600_000;

function nameOf(index: number): BlobName {
  const digest = digestOf(Buffer.from(`blob ${index}`));
  return { upstream: 'hub', repository: parseRepositoryName('lib/x'), digest };
}

function placed(digest: string) {
  return ownersOf(
    digest,
    IDS.map((id) => ({ id, weight: 1, state: 'active' as const })),
  );
}

/** One origin, and whom it sent copies. */
function origin(selfId: string, copies: number) {
  const sent: string[] = [];
  const state = { nowMs: 0, isFull: false };
  const cachedCopies = new CachedCopies({
    members: { selfId, placement: placed },
    upstreams: { get: () => ({ 'cached-replicas': copies }) as never },
    replicator: {
      offer: async (name, target) => {
        if (state.isFull) throw new CodedError('DISK_FULL');
        sent.push(`${name.digest} ${target}`);
      },
    },
    log: silentLogger(),
    nowMs: () => state.nowMs,
  });
  return { cachedCopies, sent, state };
}

t.test('the ring alone says who keeps a cached blob: the first of its owners', async (t) => {
  fc.assert(
    fc.property(fc.nat(100_000), fc.integer({ min: 1, max: 3 }), (index, copies) => {
      const { owners } = placed(nameOf(index).digest);
      const kept = cachedOwners({ owners }, copies);
      return kept.length === copies && kept.every((id, at) => id === owners[at]);
    }),
  );
  t.same(cachedOwners({ owners: ['o1'] }, 3), ['o1'], 'no more than there are');
});

t.test('who has a cached blob copies it to the others that are to keep it', async (t) => {
  const name = nameOf(1);
  const [first, second, third] = placed(name.digest).owners as [string, string, string];
  const targetsOf = async (selfId: string, copies: number): Promise<readonly string[]> => {
    const { cachedCopies, sent } = origin(selfId, copies);
    cachedCopies.lookAfter(name);
    await setImmediate();
    return sent.map((one) => one.replace(`${name.digest} `, ''));
  };
  t.same(await targetsOf(first, 1), [], 'by default none');
  t.same(await targetsOf(third, 1), []);
  t.same(await targetsOf(first, 2), [second]);
  t.same(await targetsOf(second, 2), [first]);
  t.same(await targetsOf(third, 2), [first, second], 'it led while the first was away');
  t.same(await targetsOf(first, 3), [second, third]);
});

t.test(
  'one that is read is looked after once an hour, or a minute after it could not be copied',
  async (t) => {
    const name = nameOf(2);
    const { cachedCopies, sent, state } = origin(placed(name.digest).owners[0]!, 2);
    const looks: number[] = [];
    const look = async (atMs: number): Promise<void> => {
      state.nowMs = atMs;
      const before = sent.length;
      cachedCopies.lookAfter(name);
      await setImmediate();
      if (sent.length > before) looks.push(atMs);
    };
    state.isFull = true;
    await look(1);
    state.isFull = false;
    const again = 60_001 + HOUR_MS;
    for (const atMs of [2, 60_000, 60_001, 60_002, again - 1, again, again + 1]) await look(atMs);
    t.same(looks, [60_001, again]);
  },
);

t.test('two are copied at once; a stop ends them and waits for it', async (t) => {
  let running = 0;
  let most = 0;
  const copies = new CachedCopies({
    members: { selfId: 'other', placement: placed },
    upstreams: { get: () => ({ 'cached-replicas': 2 }) as never },
    replicator: {
      offer: async (_name, _target, signal) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      },
    },
    log: silentLogger(),
    nowMs: () => 0,
  });
  for (let index = 0; index < 9; index++) copies.lookAfter(nameOf(index));
  await setImmediate();
  t.equal(running, 2);
  await copies.stop();
  t.equal(most, 2);
});
