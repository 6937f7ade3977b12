import { checkLinearizable } from '@sepia/test-support/linearizable';
import { SEED } from '@sepia/test-support/seeded';
import { findTagAnomaly, TAG_MODEL, type TagOperation } from '@sepia/test-support/tag-model';
import t from 'tap';
import { type PlantedBug, type TagFaults, TagSimulation } from '../support/tag-simulation.ts';

/** The planted bug that hides best showed within 14 rounds of everything at once, for each of 16 seeds. */
const ROUNDS = Number(process.env['ROUNDS'] ?? 15);
const CLIENTS = 5;
const STEPS = 14;

const CALM: TagFaults = { loss: 0, crash: 0, partition: 0, skewMs: 0 };
const STORM: TagFaults = { loss: 0.08, crash: 0.02, partition: 0.01, skewMs: 5_000 };

for (const [name, faults] of [
  ['a calm network', CALM],
  ['loss and delay', { ...CALM, loss: 0.15, skewMs: 2_000 }],
  ['crashes that lose what was under way', { ...CALM, crash: 0.04 }],
  ['partitions', { ...CALM, partition: 0.03, skewMs: 60_000 }],
  ['everything at once', STORM],
] as const) {
  t.test(`tags are linearizable under ${name}, and their histories tell of every move once`, async (t) => {
    let answered = 0;
    let asked = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const seed = SEED * 100_003 + round;
      const simulation = new TagSimulation(seed, faults);
      await simulation.run(CLIENTS, STEPS);
      const anomaly = findTagAnomaly(simulation.history) ?? (await simulation.findLostMove());
      if (anomaly !== undefined) t.fail(`${anomaly} (seed ${seed})`);
      asked += simulation.history.length;
      answered += simulation.history.filter(({ output }) => output !== undefined).length;
    }
    t.ok(answered > asked * 0.6, `${answered} of ${asked} operations were answered`);
  });
}

for (const bug of ['quorum-of-one', 'no-first-phase', 'answers-before-durable'] satisfies PlantedBug[]) {
  t.test(`the checker finds a planted bug: ${bug}`, async (t) => {
    let found: string | undefined;
    for (let round = 0; round < 40 && found === undefined; round++) {
      const simulation = new TagSimulation(SEED * 7_919 + round, STORM, bug);
      await simulation.run(CLIENTS, STEPS);
      found = findTagAnomaly(simulation.history);
    }
    t.type(found, 'string');
    t.comment(found);
  });
}

t.test('the checker by hand', async (t) => {
  let at = 0;
  const op = (
    beganAt: number,
    endedAt: number,
    input: TagOperation['input'],
    output?: TagOperation['output'],
  ): TagOperation => ({ client: `c${at++}`, tag: 't', beganAt, endedAt, input, ...(output && { output }) });
  const set = (digest: string) => ({ type: 'set', digest }) as const;
  const value = (seen: string) => ({ type: 'value', value: seen }) as const;
  const read = { type: 'read' } as const;
  const done = { type: 'done' } as const;
  const never = Number.POSITIVE_INFINITY;
  const isOk = (...history: TagOperation[]): boolean => checkLinearizable(history, TAG_MODEL).ok;
  t.ok(isOk(op(0, 1, set('a'), done), op(2, 3, read, value('a'))));
  t.notOk(isOk(op(0, 1, set('a'), done), op(2, 3, read, value(''))), 'a lost write');
  t.ok(isOk(op(0, 5, set('a'), done), op(2, 3, read, value(''))), 'at once: both orders');
  t.ok(isOk(op(0, never, set('a')), op(2, 3, read, value('')), op(4, 5, read, value('a'))), 'late effect');
  t.notOk(
    isOk(op(0, never, set('a')), op(2, 3, read, value('a')), op(4, 5, read, value(''))),
    'an effect that is taken back',
  );
  t.ok(isOk(op(0, never, set('a')), op(2, 3, read, value(''))), 'an unknown write need not happen');
  t.notOk(isOk(op(0, 1, read, value('x'))), 'from nowhere');
  t.notOk(isOk(op(0, 1, set('a'), done), op(2, 3, { type: 'put', digest: 'b' }, done)), 'immutable moved');
  t.ok(isOk(op(0, 1, set('a'), done), op(2, 3, { type: 'put', digest: 'b' }, { type: 'refused' })));
  t.notOk(isOk(op(0, 1, set('a'), done), op(2, 3, { type: 'remove' }, { type: 'changed', changed: false })));
});
