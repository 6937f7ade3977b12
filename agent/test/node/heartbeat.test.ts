import { silentLogger } from '@sepia/base/log';
import type { LeaseAnswer, LeaseRequest } from '@sepia/cluster/api/lease';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { CommandLog } from '../../src/node/commands/core/command-log.ts';
import { LeaseBook } from '../../src/node/core/lease-book.ts';
import { Heartbeat } from '../../src/node/heartbeat.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const none = (): void => undefined;

/** Heartbeats to trackers that answer when the test says so. */
function beats(t: Test, allIds: readonly string[], trackerIdsOf: readonly string[]) {
  const answers: ((answer: LeaseAnswer) => void)[] = [];
  const told: { readonly tracker: string; readonly lease: LeaseRequest }[] = [];
  const running: NonNullable<LeaseRequest['swarms']> = [];
  const book = new LeaseBook();
  const trackers = {
    allIds: () => allIds,
    renew: async (tracker: string, _node: string, lease: LeaseRequest): Promise<LeaseAnswer> => {
      told.push({ tracker, lease });
      return await new Promise((resolve) => answers.push(resolve));
    },
    leave: async () => undefined,
  };
  const heartbeat = new Heartbeat({
    trackers: trackers as never,
    book,
    commandLog: new CommandLog(),
    commands: { receive: none },
    ...{ nodeId: 'node-1', zone: undefined, log: silentLogger(), chance: () => 0.5 },
    addresses: () => [],
    self: () => ({}) as never,
    swarms: () => running,
    trackerIdsOf: () => [...trackerIdsOf],
    ...{ onAnswer: none, onStrangers: none },
    reach: { answered: none, failed: none },
    onRevoked: async () => undefined,
  });
  t.teardown(() => heartbeat.stop());
  return { answers, told, running, book, heartbeat };
}

const answer = (heartbeatMs: number, more: object = {}): LeaseAnswer =>
  ({ heartbeatMs, revoked: [], commands: [], ...more }) as never;
const SWARM = { digest: DIGEST, pieces: 2, have: '00', peerBytes: 0, originBytes: 0 };

t.test('a download that begins beside a heartbeat is told soon after it', async (t) => {
  const { answers, told, running, heartbeat } = beats(t, ['tracker-1', 'tracker-2'], ['tracker-1']);
  heartbeat.start();
  await until(() => answers.length === 2, 'they are told of the node');
  running.push(SWARM);
  heartbeat.poke(DIGEST);
  // Without the news the other one would be told first.
  answers[0]!(answer(3_600_000));
  await new Promise((resolve) => setImmediate(resolve));
  answers[1]!(answer(2_000));
  await until(() => told.length > 2, 'the next is told');
  t.equal(told[2]!.tracker, 'tracker-1');
  t.same(told[2]!.lease.leeching, [DIGEST]);
});

t.test('a download is told to its tracker and the next in order, to no other', async (t) => {
  const ids = ['tracker-1', 'tracker-2', 'tracker-3'];
  const { told, running, heartbeat } = beats(t, ids, ['tracker-3', 'tracker-1', 'tracker-2']);
  running.push(SWARM);
  heartbeat.start();
  await until(() => told.length === 3, 'all are told of the node');
  t.same(
    ids.map((id) => told.find(({ tracker }) => tracker === id)!.lease.leeching),
    [[DIGEST], [], [DIGEST]],
  );
});

t.test(
  'a tracker that knows nothing any more is told all anew, before the beat that it asks for',
  async (t) => {
    const { answers, told, book, heartbeat } = beats(t, ['tracker-1'], ['tracker-1']);
    book.touch(DIGEST, ['tracker-1']);
    heartbeat.start();
    await until(() => told.length === 1, 'it is told of the node');
    answers[0]!(answer(3_600_000, { resync: true }));
    await until(() => told.length === 2, 'it is told anew');
    t.same(
      told.map(({ lease }) => lease.add),
      [[DIGEST], [DIGEST]],
    );
  },
);

t.test(
  'what a tracker told of revoked links it is not asked for again, nor does another skip it',
  async (t) => {
    const { answers, told, heartbeat } = beats(t, ['tracker-1', 'tracker-2'], ['tracker-1']);
    heartbeat.start();
    await until(() => told.length === 2, 'they are told of the node');
    const first = told.findIndex(({ tracker }) => tracker === 'tracker-1');
    answers[first]!(answer(3_600_000, { resync: true, revokedCursor: 'up to here' }));
    await until(() => told.length === 3, 'it is told anew');
    answers[1 - first]!(answer(3_600_000, { resync: true }));
    await until(() => told.length === 4, 'so is the other');
    t.same(told.map(({ tracker, lease }) => [tracker, lease.revokedAfter]).slice(2), [
      ['tracker-1', 'up to here'],
      ['tracker-2', undefined],
    ]);
  },
);
