import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName, parseTag } from '@sepia/base/names/repository';
import { until } from '@sepia/test-support/until';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { TAG_WHOLE_MS } from '../../src/deadlines/upstreams.ts';
import type { JobEntry } from '../../src/replication/replication-jobs.ts';
import { OwedTags, type OwedTagsDeps } from '../../src/write-back/owed-tags.ts';

t.test('a tag that gets no job while too few origins answer is looked at again soon', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const digest = digestOf(Buffer.from('a'));
  const owed = { digest, checkedAtMs: 1, owed: { sinceMs: 1, ours: [digest] } };
  const lost = new CodedError('QUORUM_LOST', { message: 'too few origins answer' });
  const written: string[] = [];
  const [states, writes] = [[lost], [lost]];
  let changed: (space: string, key: string, before: unknown, after: unknown) => void = () => undefined;
  const deps = {
    upstreams: ['hub'],
    members: { selfId: 'o1', epoch: 1, leaderOf: () => 'o1' },
    records: {
      onRecord: (listener: typeof changed) => (changed = listener),
      repositories: async () => [],
      registers: {
        state: async () => {
          const fault = states.pop();
          if (fault !== undefined) throw fault;
          return { value: { v: 1, value: owed, recent: [] } };
        },
      },
    },
    queue: {
      mayRun: () => true,
      without: async (_name: unknown, _rule: string, tags: Iterable<string>) => new Set(tags),
      newEntry: (job: object) => ({ job }),
      write: async (entries: readonly JobEntry[]) => {
        const fault = writes.pop();
        if (fault !== undefined) throw fault;
        for (const { job } of entries) written.push(`${job!.repository}:${job!.reference}`);
      },
    },
    tags: { state: async () => owed },
    tagIndex: {},
    ...{ wake: () => undefined, log: silentLogger(), nowMs: () => performance.now() },
  };
  const tags = new OwedTags(deps as unknown as OwedTagsDeps);
  t.teardown(async () => await tags.stop());
  tags.restored({ upstream: 'hub', repository: parseRepositoryName('team/put-back'), tag: parseTag('v1') });
  const job = { rule: 'write-back/hub', upstream: 'hub', repository: 'team/ended', reference: 'v1' };
  changed('j1', 'any', { value: job }, {});
  tags.start();
  await time.settle(until(() => writes.length === 0, 'the job of one is not written'));
  await time.settle(until(() => written.includes('team/put-back:v1'), 'it gets its job'));
  await time.settle(until(() => states.length === 0, 'the other cannot be looked at'));
  await time.settle(until(() => written.includes('team/ended:v1'), 'it gets its job, too'));
  t.same(written, ['team/put-back:v1', 'team/ended:v1'], 'each once');
});

t.test('what finds no room while all tags are looked through is looked through soon', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const looks: number[] = [];
  const [begun, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const tags = new OwedTags({
    upstreams: ['hub'],
    members: { selfId: 'o1', epoch: 1, leaderOf: () => 'o1' },
    records: {
      onRecord: () => undefined,
      repositories: async () => {
        looks.push(performance.now());
        begun.resolve();
        await go.promise;
        return [];
      },
    },
    queue: { mayRun: () => true, without: async () => new Set() },
    tags: { state: async () => undefined },
    ...{ wake: () => undefined, log: silentLogger(), nowMs: () => performance.now() },
  } as unknown as OwedTagsDeps);
  t.teardown(async () => await tags.stop());
  tags.start();
  await time.settle(begun.promise);
  const repository = parseRepositoryName('team/app');
  for (let at = 0; at <= 10_000; at++)
    tags.restored({ upstream: 'hub', repository, tag: parseTag(`v${at}`) });
  go.resolve();
  await time.settle(until(() => looks.length > 1, 'all are looked through again'));
  t.ok(looks[1]! - looks[0]! < TAG_WHOLE_MS / 2, 'not when they would be anyway');
});
