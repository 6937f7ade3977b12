import type { Test } from 'tap';
import { fc } from './property.ts';

/** One thing that happens, to a model and to the real thing; throws where they differ. */
export interface Step<Model, Real> {
  /** What a failed run shows. */
  readonly name: string;
  readonly run: (model: Model, real: Real) => void;
}

interface ModelOptions<Model extends object, Real> {
  /** The steps of which runs are drawn. */
  readonly steps: readonly fc.Arbitrary<Step<Model, Real>>[];
  readonly start: () => { readonly model: Model; readonly real: Real };
  /** What holds after every step; throws where it does not. */
  readonly invariant: (model: Model, real: Real) => void;
  readonly runs: number;
}

/** Most steps of one run. */
const MOST_STEPS = 60;

/**
 * A model test: random steps, by `SEED`, on a core and on the plainest form of what it must do. A run that fails is
 * shrunk to the fewest steps; that the runs were made, of 20 steps on average at least, is asserted too.
 */
export function checkModel<Model extends object, Real>(
  t: Pick<Test, 'equal' | 'ok'>,
  options: ModelOptions<Model, Real>,
): void {
  const { steps, start, invariant, runs } = options;
  let taken = 0;
  const commands = steps.map((one) =>
    one.map(
      ({ name, run }): fc.Command<Model, Real> => ({
        check: () => true,
        run: (model, real) => {
          taken += 1;
          run(model, real);
          invariant(model, real);
        },
        toString: () => name,
      }),
    ),
  );
  const property = fc.property(fc.commands(commands, { maxCommands: MOST_STEPS, size: 'max' }), (drawn) =>
    fc.modelRun(start, drawn),
  );
  const result = fc.check(property, { numRuns: runs });
  t.equal(result.failed ? fc.defaultReportMessage(result) : undefined, undefined);
  t.equal(result.numRuns, runs);
  t.ok(taken >= runs * 20, `${taken} steps`);
}

/** @throws if the two are not the same. */
export function same(found: unknown, wanted: unknown, what: string): void {
  if (!Object.is(found, wanted)) throw new Error(`${what} is ${String(found)}, not ${String(wanted)}`);
}
