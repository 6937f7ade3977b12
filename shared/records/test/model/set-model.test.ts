import { SEED } from '@sepia/test-support/seeded';
import t from 'tap';
import { randomRuns } from './explore.ts';
import { SET_EXPERIMENTS } from './set-experiments.ts';
import { SetModel } from './set-model.ts';

/** `npm run model` sets it, for the whole of it. */
const RUNS = Number(process.env['MODEL_RUNS'] ?? 2);
const STEPS = 60;

for (const [name, { scope, rules, breaks, byField, found, steps = STEPS }] of Object.entries(
  SET_EXPERIMENTS,
)) {
  if (breaks === undefined)
    t.test(`holds: ${name}`, async (t) => {
      for (const byField of [false, true]) {
        const make = (): SetModel => new SetModel(scope, rules, byField);
        const { bad, trace, answered } = randomRuns(make, { runs: RUNS, seed: SEED, steps });
        t.equal(bad, '', `seed ${SEED}${byField ? ', by field' : ''}: ${trace.join('; ')}`);
        t.ok(answered > RUNS / 2, `${answered} writes were answered`);
      }
    });
  else
    t.test(`is found: ${name}`, async (t) => {
      // Chance finds it in this run; should the model change, within some hundred others.
      const make = (): SetModel => new SetModel(scope, rules, byField);
      const options = { seed: 1, steps, whole: true };
      const { bad } = randomRuns(make, { ...options, from: found ?? 0, runs: 1 });
      t.not(bad === '' ? randomRuns(make, { ...options, runs: 2_000 }).bad : bad, '');
    });
}
