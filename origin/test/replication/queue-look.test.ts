import t from 'tap';
import { INTENT_MS } from '../../src/deadlines/members.ts';
import { QueueLook } from '../../src/replication/queue-look.ts';
import type { OpenJob, ReplicationJob } from '../../src/replication/replication-jobs.ts';

const LONG = 100_000;

function job(at: number, change: Partial<ReplicationJob> = {}): OpenJob {
  const facts = { v: 1, rule: 'write-back/hub', kind: 'copy', state: 'waiting', tries: 0 } as const;
  const name = { upstream: 'hub', repository: `team/app${at % 10}` };
  const whole = { ...facts, ...name, reference: `v${at}`, createdAtMs: 1_000 + at, ...change };
  return { ...name, id: `j${at}`, atMs: 1, job: whole };
}

function lookAt(list: () => Iterable<OpenJob>, clock = { nowMs: 0 }, leader = 'o1', rules = 1): QueueLook {
  return new QueueLook({
    jobs: {
      async *open() {
        yield* list();
      },
    },
    queue: { mayRun: () => true },
    members: { selfId: 'o1', leaderOf: () => leader },
    rules: { size: rules, has: () => true },
    nowMs: () => clock.nowMs,
  });
}

t.test('of a queue however long it keeps what may run next, and counts the rest', async (t) => {
  function* long(): Generator<OpenJob> {
    for (let at = 0; at < LONG; at++) yield job(at);
  }
  const look = lookAt(long);
  const found = await look.look(new Set(['j5', 'none']), () => true);
  t.equal(found.size, LONG);
  t.same(found.backlogs.get('write-back/hub'), { waiting: LONG, dead: 0, oldestAtMs: 1_000 });
  t.equal(found.groups.length, 2_000, 'what is kept has a limit');
  t.same([...found.open], ['j5']);
  const begun = new Set(found.groups.map(({ key }) => key));
  const next = await look.look(new Set(), (key) => !begun.has(key));
  t.equal(next.groups.length, 2_000);
  t.notOk(
    next.groups.some(({ key }) => begun.has(key)),
    'what runs or waits after a failure makes room for the others',
  );
});

t.test('one tag that is pushed very often is one group, within a limit', async (t) => {
  function* often(): Generator<OpenJob> {
    for (let at = 0; at < LONG; at += 10) yield job(at, { reference: 'latest' });
    yield job(LONG, { reference: 'v1' });
  }
  const { groups } = await lookAt(often).look(new Set(), () => true);
  t.same(
    groups.map(({ jobs }) => [jobs[0]!.job.reference, jobs.length]),
    [
      ['latest', 500],
      ['v1', 1],
    ],
  );
});

t.test('a rule with a long backlog takes no share of another', async (t) => {
  const other = { rule: 'write-back/other' };
  function* both(): Generator<OpenJob> {
    // Many jobs a tag: as many as are kept, in fewer groups than one rule may have.
    for (let at = 0; at < LONG; at++) yield job(at, { reference: `v${at % 1_000}` });
    for (let at = 0; at < 100; at++) yield job(LONG + at, other);
  }
  const { groups } = await lookAt(both, { nowMs: 0 }, 'o1', 2).look(new Set(), () => true);
  const ofOther = groups.filter(({ jobs }) => jobs[0]!.job.rule === other.rule);
  t.equal(ofOther.length, 100);
  t.equal(
    groups.flatMap(({ jobs }) => jobs).length,
    5_000 + 100,
    'half of what is kept, and all of the other',
  );
});

t.test('an intent is ripe when it was seen for long; dead ones are counted only', async (t) => {
  const clock = { nowMs: 5_000 };
  const look = lookAt(() => [job(1, { state: 'intent' }), job(2, { state: 'dead' })], clock);
  t.same((await look.look(new Set(), () => true)).groups, []);
  clock.nowMs += INTENT_MS;
  const { groups, backlogs } = await look.look(new Set(), () => true);
  t.same(
    groups.map(({ jobs }) => jobs[0]!.id),
    ['j1'],
  );
  t.match(backlogs.get('write-back/hub'), { waiting: 1, dead: 1 });
});

t.test(
  'another leader is told of so many at once, the others next, and all again after a while',
  async (t) => {
    const clock = { nowMs: 0 };
    const list = Array.from({ length: 700 }, (_, at) => job(at));
    const look = lookAt(() => list, clock, 'o2');
    const tell = async (): Promise<number> => {
      const told = (await look.look(new Set(), () => true)).foreign.get('o2')!;
      look.told(told);
      return told.length;
    };
    t.same([await tell(), await tell(), await tell()], [500, 200, 0]);
    clock.nowMs = 15_000;
    t.equal(await tell(), 500);
  },
);
