import { randomRuns } from '../../../shared/records/test/model/explore.ts';
import { EXPERIMENTS } from '../../../shared/records/test/model/register-experiments.ts';
import { RegisterModel } from '../../../shared/records/test/model/register-model.ts';
import { Scope } from '../../../shared/records/test/model/scope.ts';

/** Runs of each experiment before the next one's turn. */
const TURN = 20;

/** The register's core under every experiment of the model that must hold; what broke, or undefined. */
export function registerRuns(seed: number, runs: number): string | undefined {
  for (let from = 0; from < runs; from += TURN)
    for (const [name, { scope, rules, steps, breaks }] of Object.entries(EXPERIMENTS)) {
      if (breaks === true) continue;
      const ready = new Scope(scope);
      const make = () => new RegisterModel(ready, rules);
      const { bad, trace } = randomRuns(make, { runs: Math.min(TURN, runs - from), from, seed, steps });
      if (bad !== '') return `registers, ${name}: ${bad}; ${trace.join('; ')}`;
    }
  return undefined;
}
