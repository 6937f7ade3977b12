import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { Deletes } from '../../src/removal/deletes.ts';
import { Removals } from '../../src/removal/removals.ts';
import { ReplicationIntake } from '../../src/replication/intake.ts';
import type { OpenJob } from '../../src/replication/replication-jobs.ts';

const NAME = { upstream: 'local', repository: 'team/app', tag: 'v1' } as never;
const RULES = [
  { rule: { name: 'takes', from: 'local', delete: true } },
  { rule: { name: 'leaves', from: 'local', delete: false } },
  { rule: { name: 'behind', from: 'local', delete: true }, writeBack: {} },
];

/** One that takes tags away; `during` is called in the middle of it. */
function removing(during: (jobs: readonly string[]) => void) {
  const jobs: string[] = [];
  const queue = {
    newEntry: (job: object) => ({ id: 'one', atMs: 1, job }),
    write: async (entries: readonly OpenJob[]) => {
      jobs.push(...entries.map(({ job }) => `${job.kind} ${job.reference} by ${job.rule}: ${job.state}`));
    },
  };
  const matcher = { matchesTag: () => true, matchesRepository: () => true };
  const targets = new Map(RULES.map((one) => [one.rule.name, { ...one, matcher }]));
  const replication = new ReplicationIntake({ queue, targets, nowMs: () => 0 } as never);
  const tags = {
    read: async () => ({ digest: 'sha256:0' }),
    delete: async () => {
      during(jobs);
      return true;
    },
  };
  const upstreams = {
    client: () => undefined,
    get: () => ({ name: 'local', mode: 'none' }),
    takesDeletes: () => true,
    keepsPushes: () => false,
    tagRules: () => ({ policy: 'mutable' }),
  };
  const deps = { replication, tags, upstreams, log: silentLogger() };
  const others = { manifests: { forget: () => undefined }, invalidation: { tell: async () => [] } };
  const deletes = new Deletes({ ...deps, ...others } as never);
  const removals = new Removals({
    ...{ ...deps, ...others, deletes, members: { others: [] } },
    ...{ commands: { trackerIds: () => [], send: async () => [] } },
  } as never);
  return { jobs, deletes, removals };
}

t.test('who dies while a tag is deleted leaves word of it for all who are to take it away', async (t) => {
  const { jobs, deletes } = removing((jobs) => {
    t.same(jobs, ['delete v1 by takes: intent', 'delete v1 by behind: intent']);
  });
  await deletes.tag(NAME);
  t.same(jobs.slice(2), ['delete v1 by takes: waiting', 'delete v1 by behind: waiting']);
});

t.test('a delete that fails leaves what looks again', async (t) => {
  const { jobs, deletes } = removing(() => {
    throw new Error('dead');
  });
  await t.rejects(deletes.tag(NAME), { message: 'dead' });
  t.same(jobs, ['delete v1 by takes: intent', 'delete v1 by behind: intent']);
});

t.test('a purge is no delete at the registry behind', async (t) => {
  const { jobs, removals } = removing((jobs) => t.same(jobs, ['delete v1 by takes: intent']));
  const { upstream, repository, tag } = NAME as { upstream: never; repository: never; tag: never };
  await removals.remove({ upstream, repository }, { tag });
  t.same(jobs.slice(1), ['delete v1 by takes: waiting']);
});
