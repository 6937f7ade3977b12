import { digestOf } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { Cluster } from '@sepia/cluster/cluster';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { LeaderWait } from '../../src/metainfo/core/leader-wait.ts';
import { pollLeader } from '../../src/metainfo/leader-poll.ts';
import { Origins } from '../../src/metainfo/origins.ts';

const DIGEST = digestOf(Buffer.from('x'));
const NAME = { digest: DIGEST, upstream: 'local', repository: parseRepositoryName('a') };
const KNOWN = Metainfo.open(DIGEST, 2 ** 20, firstAttempt(DIGEST));
const POLL = { name: NAME, leader: 'a', known: KNOWN, wish: { all: true } };
const SIGNAL = new AbortController().signal;

/** Origins a (it leads), b and c that answer after so many ms: polls, and what they have. */
function cluster(t: Test, pollMs: number, whereMs: (id: string) => number) {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const asked: string[] = [];
  const answer = async <T>(ms: number, value: T, signal: AbortSignal | undefined): Promise<T> =>
    await new Promise((resolve, reject) => {
      setTimeout(() => resolve(value), ms);
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  const client = {
    bytes: async ({ signal }: InternalRequest) => await answer(pollMs, { status: 304 }, signal),
    json: async ({ to, signal }: InternalRequest) => {
      asked.push(to);
      return await answer(whereMs(to), { state: to === 'a' ? 'open' : 'none' }, signal);
    },
  } as unknown as InternalClient;
  const ids = ['a', 'b', 'c'];
  const origins = new Origins({
    cluster: {
      origins: () => ({ owners: ids, standIns: [] }),
      member: (id: string) => ({ urls: [`http://${id}`] }),
    } as unknown as Cluster,
    client,
  });
  const wait = new LeaderWait(origins.pace);
  const poll = async () => await time.settle(pollLeader({ origins, wait }, POLL, SIGNAL));
  return { time, asked, poll };
}

const HOUR_MS = 3_600_000;

t.test('a leader that hangs is found out in about a second, and what the others have is known', async (t) => {
  const { time, poll } = cluster(t, HOUR_MS, (id) => (id === 'a' ? HOUR_MS : 5));
  const polled = await poll();
  t.equal(time.elapsedMs, 1_050);
  t.match(polled, {
    type: 'silent',
    answers: [
      { originId: 'a', state: 'silent' },
      { originId: 'b', state: 'none' },
      { originId: 'c', state: 'none' },
    ],
  });
});

t.test('one that answers in time is not asked beside', async (t) => {
  const { asked, poll } = cluster(t, 300, () => 5);
  t.match(await poll(), { type: 'answer', news: undefined });
  t.same(asked, []);
});

t.test('a late poll alone says nothing: one that says what it has is waited for', async (t) => {
  const { time, asked, poll } = cluster(t, 1_400, () => 5);
  t.match(await poll(), { type: 'answer' });
  t.equal(time.elapsedMs, 1_400);
  t.same(asked, ['a', 'b', 'c']);
});

t.test('where all are slow the leader may be', async (t) => {
  const { time, poll } = cluster(t, 1_400, (id) => (id === 'a' ? 1_300 : 200));
  t.match(await poll(), { type: 'answer' });
  t.equal(time.elapsedMs, 1_400);
});

t.test('where nobody answers the fault may be here: the poll is waited for', async (t) => {
  const { poll } = cluster(t, 4_200, () => HOUR_MS);
  t.match(await poll(), { type: 'answer' });
});
