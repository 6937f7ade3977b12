import { canonicalJson, type Entry, type Join, joinFields, joinWhole } from '@sepia/records/core/join';
import { seeded } from '@sepia/test-support/seeded';
import { randomRuns } from '../../../shared/records/test/model/explore.ts';
import { SET_EXPERIMENTS } from '../../../shared/records/test/model/set-experiments.ts';
import { SetModel } from '../../../shared/records/test/model/set-model.ts';

const OWNERS = 3;
const WRITES = 5;
const CLOCKS = 3;
const STEPS = 60;

/** A set's owners and writers under every experiment of the model that must hold; what broke, or undefined. */
export function setOwnerRuns(seed: number, runs: number): string | undefined {
  for (const [name, { scope, rules, breaks }] of Object.entries(SET_EXPERIMENTS)) {
    if (breaks === true) continue;
    for (const byField of [false, true]) {
      const make = () => new SetModel(scope, rules, byField);
      const { bad, trace } = randomRuns(make, { runs, seed, steps: STEPS });
      if (bad !== '') return `sets, ${name}: ${bad}; ${trace.join('; ')}`;
    }
  }
  return undefined;
}

/**
 * The merge of a set under messages in any order, any number of times: owners that heard the same end the same, and a
 * last write alone at its time stands. What broke, or undefined.
 */
export function setRuns(seed: number, runs: number): string | undefined {
  for (const [name, join] of [
    ['whole', joinWhole],
    ['by field', joinFields],
  ] as const)
    for (let run = 0; run < runs; run++) {
      const bad = setRun(join, seed * 1_000_003 + run);
      if (bad !== undefined) return `sets joined ${name}, run ${run}: ${bad}`;
    }
  return undefined;
}

function setRun(join: Join, seed: number): string | undefined {
  const chance = seeded(seed);
  const below = (limit: number): number => Math.floor(chance() * limit);
  const written = Array.from({ length: WRITES }, (): Entry => {
    const atMs = 1 + below(CLOCKS);
    return chance() < 0.3
      ? { atMs }
      : { atMs, value: chance() < 0.5 ? { size: below(3) } : { type: below(3), size: below(3) } };
  });
  const owners: (Entry | undefined)[] = Array.from({ length: OWNERS }, () => undefined);
  const take = (owner: number, entry: Entry): void => {
    const before = owners[owner];
    owners[owner] = before === undefined ? entry : join(before, entry);
  };
  // All messages reach all owners, mixed with repair between them.
  const left = owners.flatMap((_, owner) => written.map((entry) => ({ owner, entry })));
  while (left.length > 0) {
    const [message] = left.splice(below(left.length), 1);
    take(message!.owner, message!.entry);
    const from = owners[below(OWNERS)];
    if (from !== undefined && chance() < 0.3) take(below(OWNERS), from);
  }
  const texts = owners.map((one) => canonicalJson(one));
  const history = `of ${canonicalJson(written)}`;
  if (new Set(texts).size > 1) return `owners differ: ${texts.join(' and ')} ${history}`;
  const lastMs = Math.max(...written.map(({ atMs }) => atMs));
  const last = written.filter(({ atMs }) => atMs === lastMs);
  const isGone = owners[0]!.value === undefined;
  if (isGone !== last.some(({ value }) => value === undefined))
    return `the last write does not stand: ${texts[0]} ${history}`;
  return undefined;
}
