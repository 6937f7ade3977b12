import { createHash } from 'node:crypto';
import { seeded } from '@sepia/test-support/seeded';

/** A model whose steps are chosen from outside; the same labels in the same order end in the same state. */
export interface Explorable {
  bad: string;
  readonly answered: number;
  actions(): (readonly [label: string, run: () => void, weight: number])[];
  check(): void;
}

/** Outcome of a search: `bad` with its shortest history, or how much was seen. */
export interface Found {
  readonly bad: string;
  readonly trace: readonly string[];
  readonly runs: number;
  readonly answered: number;
}

/**
 * Runs by weighted chance, from run `from` on; the first that breaks a promise is cut down to the steps that it needs
 * (unless it is wanted `whole`).
 */
export function randomRuns(
  make: () => Explorable,
  options: {
    readonly runs: number;
    readonly seed: number;
    readonly steps: number;
    readonly from?: number;
    readonly whole?: boolean;
  },
): Found {
  let answered = 0;
  const from = options.from ?? 0;
  for (let run = from; run < from + options.runs; run++) {
    const chance = seeded(options.seed * 1_000_003 + run);
    const model = make();
    const trace: string[] = [];
    for (let step = 0; step < options.steps && model.bad === ''; step++) {
      const actions = model.actions();
      if (actions.length === 0) break;
      const [label, go] = chosen(actions, chance());
      go();
      trace.push(label);
      model.check();
    }
    const found = { bad: model.bad, trace };
    if (model.bad !== '')
      return { ...(options.whole === true ? found : shortest(make, found)), runs: run + 1, answered };
    answered += model.answered;
  }
  return { bad: '', trace: [], runs: options.runs, answered };
}

/** A state on the way of a search: the action that led to it from the one before; the model itself where there is room. */
interface Reached<M> {
  readonly before: Reached<M> | undefined;
  readonly action: number;
  readonly label: string;
  model: M | undefined;
}

/**
 * Visits every state, breadth first, up to `limit` of them. At most `kept` models of a layer are held; the others are made
 * again by the way to them.
 */
export function everyState<M extends Explorable & { clone(): M; hash(): string }>(
  first: M,
  limit: number,
  kept = 50_000,
): {
  readonly bad: string;
  readonly trace: readonly string[];
  readonly states: number;
  readonly whole: boolean;
} {
  const seen = new Set([short(first.hash())]);
  let layer: Reached<M>[] = [{ before: undefined, action: -1, label: '', model: first }];
  while (layer.length > 0) {
    const next: typeof layer = [];
    for (const reached of layer) {
      const model = reached.model ?? madeAgain(first, reached);
      // Ways lead through it: each would hold its model for ever.
      reached.model = undefined;
      const count = model.actions().length;
      for (let action = 0; action < count; action++) {
        const copy = model.clone();
        const [label, go] = copy.actions()[action]!;
        go();
        copy.check();
        if (copy.bad !== '') {
          const trace = [...wayTo(reached).map((one) => one.label), label];
          return { bad: copy.bad, trace, states: seen.size, whole: false };
        }
        const key = short(copy.hash());
        if (seen.has(key)) continue;
        seen.add(key);
        if (seen.size >= limit) return { bad: '', trace: [], states: seen.size, whole: false };
        next.push({ before: reached, action, label, model: next.length < kept ? copy : undefined });
      }
    }
    layer = next;
  }
  return { bad: '', trace: [], states: seen.size, whole: true };
}

/** From the first action on. */
function wayTo<M>(reached: Reached<M>): Reached<M>[] {
  const way: Reached<M>[] = [];
  for (let one = reached; one.before !== undefined; one = one.before) way.push(one);
  return way.reverse();
}

function madeAgain<M extends Explorable & { clone(): M }>(first: M, reached: Reached<M>): M {
  const model = first.clone();
  for (const { action } of wayTo(reached)) model.actions()[action]![1]();
  return model;
}

function chosen(actions: ReturnType<Explorable['actions']>, chance: number) {
  let left = chance * actions.reduce((sum, [, , weight]) => sum + weight, 0);
  for (const action of actions) {
    left -= action[2];
    if (left <= 0) return action;
  }
  return actions[0]!;
}

function shortest(make: () => Explorable, found: { bad: string; trace: string[] }) {
  let best = found;
  for (let again = true; again; ) {
    again = false;
    for (let size = Math.max(1, best.trace.length >> 2); size >= 1; size >>= 1)
      for (let at = best.trace.length - size; at >= 0; at--) {
        const tried = replay(make, [...best.trace.slice(0, at), ...best.trace.slice(at + size)]);
        if (tried.bad === '' || tried.trace.length >= best.trace.length) continue;
        best = tried;
        again = true;
      }
  }
  return best;
}

function replay(make: () => Explorable, labels: readonly string[]) {
  const model = make();
  const trace: string[] = [];
  for (const label of labels) {
    const action = model.actions().find(([name]) => name === label);
    if (action === undefined) continue;
    action[1]();
    trace.push(label);
    model.check();
    if (model.bad !== '') break;
  }
  return { bad: model.bad, trace };
}

function short(text: string): string {
  return createHash('sha256').update(text).digest('base64').slice(0, 20);
}
