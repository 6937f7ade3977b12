import { CodedError } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t, { type Test } from 'tap';
import { type Fate, IDS, SHARD, World } from './world.ts';

const KEYS = ['k1', 'k2'];
const FATE = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Fate>('arrives') },
  { weight: 1, arbitrary: fc.constant<Fate>('is lost') },
  { weight: 2, arbitrary: fc.constant<Fate>('is late') },
);
const FATES = fc.tuple(FATE, FATE, FATE);
const ID = fc.constantFrom(...IDS);
const KEY = fc.constantFrom(...KEYS);
const STEP = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('put' as const, 'delete' as const),
      by: ID,
      key: KEY,
      fates: FATES,
      skewMs: fc.constantFrom(-40, 0, 0, 5),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('seek' as const),
      by: ID,
      fates: FATES,
      agoMs: fc.constantFrom(0, 0, 3),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('pull' as const), by: ID, from: ID }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('offer' as const), from: ID, to: ID, key: KEY }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('late' as const), at: fc.nat(50) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('snapshot' as const), by: ID }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('start' as const),
      by: ID,
      disk: fc.constantFrom('same', 'old', 'old', 'old', 'empty'),
      handovers: fc.constantFrom(0, 1, 2, 2, 2),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('handover' as const), by: ID, from: ID }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('bury' as const), key: KEY, fates: FATES }) },
);
type Step = typeof STEP extends fc.Arbitrary<infer S> ? S : never;

interface Write {
  readonly kind: 'put' | 'delete';
  readonly isDone: boolean;
}

const counts = { claims: 0, floors: 0, gone: 0 };

function withFates(world: World, fates: readonly Fate[]): void {
  for (const [index, id] of IDS.entries()) world.fates.set(id, fates[index]!);
}

/** True if it was acknowledged; an outcome that is no bug otherwise. */
async function isDone(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (error instanceof CodedError) return false;
    throw error;
  }
}

async function run(world: World, step: Step, writes: Map<string, Write[]>): Promise<void> {
  world.nowMs += 1;
  if (step.do === 'put' || step.do === 'delete') {
    if (!world.of(step.by).standing.settled) return;
    withFates(world, step.fates);
    world.writerMs = world.nowMs + step.skewMs;
    const change =
      step.do === 'put' ? { key: [step.key], value: { sizeBytes: world.nowMs } } : { key: [step.key] };
    const done = await isDone(world.of(step.by).set.write(SHARD, [change]));
    writes.get(step.key)!.push({ kind: step.do, isDone: done });
  } else if (step.do === 'bury') {
    // As a collection: all that is seen is asked of every owner, at its clock.
    const seen = world.settled.length === 3 ? await world.readBy([step.key], ['a', 'b']) : undefined;
    if (seen === undefined || seen === 'none' || seen.value === undefined) return;
    for (const [index, id] of IDS.entries()) {
      if (step.fates[index] === 'is lost') continue;
      const dead = [{ key: [step.key], atMs: seen.atMs }];
      const run = async (): Promise<void> => await world.of(id).set.here.buryOwn(SHARD, dead);
      if (step.fates[index] === 'is late') world.late.push(run);
      else await run();
    }
    // It claims nothing of its own: a later write wins, and what is written again stays.
    writes.get(step.key)!.push({ kind: 'delete', isDone: false });
  } else if (step.do === 'seek') {
    if (!world.of(step.by).standing.settled) return;
    withFates(world, step.fates);
    const seeking = world
      .of(step.by)
      .rounds.seek(SHARD, world.nowMs - step.agoMs, new AbortController().signal);
    const found = await seeking.catch((error: unknown) => {
      if (error instanceof CodedError) return false;
      throw error;
    });
    if (found) counts.floors += 1;
  } else await fault(world, step);
  world.fates.clear();
}

async function fault(world: World, step: Step): Promise<void> {
  if (step.do === 'late') {
    // Any of them, any number of times.
    const message = world.late[step.at % Math.max(1, world.late.length)];
    if (message !== undefined) await isDone(message());
  } else if (step.do === 'snapshot') {
    if (world.of(step.by).standing.settled) world.snapshot(step.by);
  } else if (step.do === 'pull') {
    const both = world.settled.includes(step.by) && world.settled.includes(step.from);
    if (both && step.by !== step.from) await world.pull(step.by, step.from, 'repair');
  } else if (step.do === 'start') {
    // One at a time: with two of three gone nothing is promised.
    if (world.settled.length < 3) return;
    const { table, standing } = world.of(step.by);
    const old = step.disk === 'old' ? world.snapshots.get(step.by) : undefined;
    if (step.disk === 'empty') await world.start(step.by);
    else await world.start(step.by, old ?? { texts: table.texts, standing });
    const others = IDS.filter((id) => id !== step.by).slice(0, step.handovers);
    for (const id of others) await world.handOver(step.by, id);
  } else if (step.do === 'offer') {
    const { linkSet } = world.of(step.from).records;
    const key = [SHARD.upstream, SHARD.repository, step.key];
    const entry = world.settled.includes(step.from) ? await linkSet.entry(key) : undefined;
    const theirsMs = linkSet.agreedMs(key);
    if (entry !== undefined)
      world.late.push(async () => {
        if (world.settled.includes(step.to))
          await world.of(step.to).records.linkSet.mergeAll([entry], theirsMs);
      });
  } else if (step.do === 'handover' && step.by !== step.from) await world.handOver(step.by, step.from);
}

/** What the last acknowledged write says stands, whichever two are asked, if no other kind of write may still arrive. */
async function check(world: World, writes: ReadonlyMap<string, readonly Write[]>): Promise<void> {
  for (const [key, all] of writes) {
    const last = all.at(-1);
    if (!last?.isDone || !all.every((one) => one.kind === last.kind || one.isDone)) continue;
    for (const ids of [
      ['a', 'b'],
      ['b', 'c'],
      ['c', 'a'],
    ]) {
      if (!ids.every((id) => world.settled.includes(id))) continue;
      const found = await world.readBy([key], ids);
      if (found === undefined) continue;
      counts.claims += 1;
      const isLive = found !== 'none' && found.value !== undefined;
      if (found === 'none' && last.kind === 'delete') counts.gone += 1;
      if (isLive !== (last.kind === 'put'))
        throw new Error(
          `${last.kind} of ${key} was acknowledged; ${ids.join()} say ${JSON.stringify(found)}`,
        );
    }
  }
}

t.test('whatever is lost, late or set back: no delete comes back, and nothing live goes', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(STEP, { minLength: 20, maxLength: 70 }), async (steps) => {
      const world = new World();
      const writes = new Map<string, Write[]>(KEYS.map((key) => [key, []]));
      for (const step of steps) {
        await run(world, step, writes);
        await check(world, writes);
      }
    }),
    { numRuns: Number(process.env['FLOOR_RUNS'] ?? 150) },
  );
  t.ok(counts.claims > 1_000, `${counts.claims} claims were looked at`);
  t.ok(counts.floors > 50, `${counts.floors} floors were agreed on`);
  t.ok(counts.gone > 50, `${counts.gone} deletes had no tombstone any more`);
});

const NEVER = new AbortController().signal;
const fullKey = (key: string): string[] => [SHARD.upstream, SHARD.repository, key];

/** Two links, of which one was deleted below a floor that all agreed on; `c` is as it was before the delete. */
async function setBack(t: Test): Promise<World> {
  const world = new World();
  for (const key of ['dead', 'live'])
    await world.of('a').set.write(SHARD, [{ key: [key], value: { sizeBytes: 1 } }]);
  world.snapshot('c');
  world.writerMs = 1_001;
  await world.of('a').set.write(SHARD, [{ key: ['dead'] }]);
  world.nowMs = 1_002;
  t.ok(await world.of('a').rounds.seek(SHARD, 1_002, NEVER));
  for (const id of IDS) t.equal(await world.of(id).records.linkSet.entry(fullKey('dead')), undefined, id);
  await world.start('c', world.snapshots.get('c'));
  const { standing } = world.of('c');
  world.of('c').standing = { ...standing, settled: true };
  return world;
}

t.test(
  'what one has below the higher floor of another does not stand, and goes with that floor',
  async (t) => {
    const world = await setBack(t);
    const c = world.of('c');
    t.ok((await c.records.linkSet.entry(fullKey('dead')))?.value, 'its disk has it');
    for (const ids of [
      ['a', 'c'],
      ['c', 'b'],
    ]) {
      t.equal(await world.readBy(['dead'], ids), 'none', ids.join());
      const live = await world.readBy(['live'], ids);
      t.ok(live !== 'none' && live?.value, ids.join());
    }
    await world.pull('a', 'c', 'repair');
    t.equal(
      await world.of('a').records.linkSet.entry(fullKey('dead')),
      undefined,
      'a lower floor brings nothing',
    );
    await world.pull('c', 'a', 'repair');
    t.equal(await c.records.linkSet.entry(fullKey('dead')), undefined);
    t.ok((await c.records.linkSet.entry(fullKey('live')))?.value);
    t.same(c.records.floors.of(fullKey('x')), world.of('a').records.floors.of(fullKey('x')));
  },
);

t.test('a floor is never taken over without the entries above and below it', async (t) => {
  const world = await setBack(t);
  await world.start('c');
  const c = world.of('c');
  const theirs = await c.takeover.listOf('a', 'handover', new Set(['all']), NEVER);
  await c.takeover.take('a', 'handover', theirs, NEVER);
  t.ok((await c.records.linkSet.entry(fullKey('live')))?.value);
  t.equal(c.records.floors.of(fullKey('x')).agreedMs, 1_002);
  await world.start('c');
  const again = await world.of('c').takeover.listOf('a', 'handover', new Set(['all']), NEVER);
  await world.start('a', { texts: world.of('a').table.texts, standing: world.of('a').standing });
  await t.rejects(
    world.of('c').takeover.take('a', 'handover', again, NEVER),
    { code: 'RECORDS_PENDING' },
    'another generation',
  );
  t.equal(world.of('c').records.floors.of(fullKey('x')).agreedMs, 0);
});

t.test('an owner that did not tell the same, or is silent, leaves all as it is', async (t) => {
  const world = new World();
  world.fates.set('b', 'is lost');
  await world.of('a').set.write(SHARD, [{ key: ['k'], value: { sizeBytes: 1 } }]);
  t.notOk(await world.of('a').rounds.seek(SHARD, 1_000, NEVER), 'it is silent');
  world.fates.clear();
  t.notOk(await world.of('a').rounds.seek(SHARD, 1_000, NEVER), 'it lacks one');
  for (const id of IDS) t.equal(world.of(id).records.floors.of(fullKey('k')).agreedMs, 0, id);
  await world.pull('b', 'a', 'repair');
  t.ok(await world.of('a').rounds.seek(SHARD, 1_000, NEVER));
  t.ok((await world.of('b').records.linkSet.entry(fullKey('k')))?.value, 'what is live stays');
});

t.test('an owner that started since it told does not agree', async (t) => {
  const world = new World();
  world.fates.set('b', 'is lost');
  await world.of('a').set.write(SHARD, [{ key: ['k'], value: { sizeBytes: 1 } }]);
  world.fates.clear();
  t.notOk(await world.of('a').rounds.seek(SHARD, 1_000, NEVER), 'one is lacking, but all promised');
  world.snapshot('b');
  await world.pull('b', 'a', 'repair');
  const before = world.of('b');
  t.equal(
    (await before.rounds.promise(SHARD, 1_000)).digest,
    (await world.of('a').rounds.promise(SHARD, 1_000)).digest,
    'it tells the same',
  );
  await world.start('b', world.snapshots.get('b'));
  const b = world.of('b');
  b.standing = { ...b.standing, settled: true };
  const { promisedMs } = b.records.floors.of(fullKey('k'));
  t.equal(promisedMs, 1_000, 'its disk of before knows the promise, but not what it told');
  await t.rejects(b.rounds.agree(SHARD, 1_000, before.standing.generation), { code: 'CONFLICT' });
  t.equal(b.records.floors.of(fullKey('k')).agreedMs, 0);
  await b.rounds.agree(SHARD, 1_000, b.standing.generation);
  t.equal(b.records.floors.of(fullKey('k')).agreedMs, 1_000, 'of its own generation it does');
});
