import { silentLogger } from '@sepia/base/log';
import type { LeaseAnswer, LeaseRequest } from '@sepia/cluster/api/lease';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { CommandLog } from '../../src/node/commands/core/command-log.ts';
import { LeaseBook } from '../../src/node/core/lease-book.ts';
import { Heartbeat } from '../../src/node/heartbeat.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const none = (): void => undefined;

t.test('a download that begins beside a heartbeat is told soon after it', async (t) => {
  const answers: ((answer: LeaseAnswer) => void)[] = [];
  const told: { readonly tracker: string; readonly lease: LeaseRequest }[] = [];
  const running: NonNullable<LeaseRequest['swarms']> = [];
  const trackers = {
    allIds: () => ['tracker-1', 'tracker-2'],
    renew: async (tracker: string, _node: string, lease: LeaseRequest): Promise<LeaseAnswer> => {
      told.push({ tracker, lease });
      return await new Promise((resolve) => answers.push(resolve));
    },
    leave: async () => undefined,
  };
  const heartbeat = new Heartbeat({
    trackers: trackers as never,
    book: new LeaseBook(),
    commandLog: new CommandLog(),
    commands: { receive: none },
    ...{ nodeId: 'node-1', zone: undefined, log: silentLogger(), chance: () => 0.5 },
    addresses: () => [],
    self: () => ({}) as never,
    swarms: () => running,
    trackerIdsOf: () => ['tracker-1'],
    ...{ onAnswer: none, onStrangers: none },
    reach: { answered: none, failed: none },
    onRevoked: async () => undefined,
  });
  t.teardown(() => heartbeat.stop());
  heartbeat.start();
  await until(() => answers.length === 2, 'they are told of the node');
  running.push({ digest: DIGEST, pieces: 2, have: '00', peerBytes: 0, originBytes: 0 });
  heartbeat.poke(DIGEST);
  const answer = (heartbeatMs: number) => ({ heartbeatMs, revoked: [], commands: [] }) as never;
  // Without the news the other one would be told first.
  answers[0]!(answer(3_600_000));
  await new Promise((resolve) => setImmediate(resolve));
  answers[1]!(answer(2_000));
  await until(() => told.length > 2, 'the next is told');
  t.equal(told[2]!.tracker, 'tracker-1');
  t.same(told[2]!.lease.leeching, [DIGEST]);
});
