import { SEED } from '@sepia/test-support/seeded';
import t from 'tap';
import { everyState, randomRuns } from './explore.ts';
import { EXPERIMENTS } from './register-experiments.ts';
import { RegisterModel } from './register-model.ts';
import { Scope, type ScopeInit } from './scope.ts';

/** `npm run model` sets both, for the whole of it. */
const RUNS = Number(process.env['MODEL_RUNS'] ?? 6);
const STATES = Number(process.env['MODEL_STATES'] ?? 800);

for (const [name, { scope, rules, steps, breaks, found }] of Object.entries(EXPERIMENTS)) {
  const make = (): RegisterModel => new RegisterModel(ready, rules);
  const ready = new Scope(scope);
  if (breaks === undefined)
    t.test(`holds: ${name}`, async (t) => {
      const { bad, trace, answered } = randomRuns(make, { runs: RUNS, seed: SEED, steps });
      t.equal(bad, '', `seed ${SEED}: ${trace.join('; ')}`);
      t.ok(answered > RUNS / 2, `${answered} operations were answered`);
    });
  else
    t.test(`is found: ${name}`, async (t) => {
      // Chance finds it in this run; should the model change, within some hundred others.
      const options = { seed: 1, steps, whole: true };
      const { bad } = randomRuns(make, { ...options, from: found ?? 0, runs: 1 });
      t.not(bad === '' ? randomRuns(make, { ...options, runs: 1_000 }).bad : bad, '');
    });
}

const AB: ScopeInit = { work: [['append'], ['append']], attempts: 1 };
const TINY: Readonly<Record<string, ScopeInit>> = {
  'two appends, one try each': AB,
  'append and read': { ...AB, work: [['append'], ['read']] },
  'two appends, a disk lost': { ...AB, wipes: 1 },
};
for (const [name, scope] of Object.entries(TINY))
  t.test(`every state: ${name}`, async (t) => {
    const { bad, trace, states, whole } = everyState(new RegisterModel(new Scope(scope)), STATES);
    t.equal(bad, '', trace.join('; '));
    t.comment(`${states} states${whole ? ', all there are' : ''}`);
  });

t.test('every state: models that are made again by the way to them', async (t) => {
  const search = (kept: number): unknown =>
    everyState(new RegisterModel(new Scope({ ...AB, wipes: 1 })), 3_000, kept);
  const found = search(0);
  t.same(found, search(Number.POSITIVE_INFINITY), 'are the same ones');
  t.match(found, { bad: '', states: 3_000 });
});
