/** One call and its answer, in the order of one clock. */
export interface Operation<I, O> {
  readonly client: string;
  readonly input: I;
  /** Left out: the outcome is unknown. It may have happened at any time after its begin, or never. */
  output?: O;
  readonly beganAt: number;
  /** Infinity while the outcome is unknown. */
  endedAt: number;
}

/** What one object does on its own. States and inputs are values; `S` is compared by its text. */
export interface SequentialModel<S extends string, I, O> {
  readonly initial: S;
  /** The state after `input`, or undefined if it cannot answer `output`. Without `output` any answer will do. */
  step(state: S, input: I, output: O | undefined): S | undefined;
}

export interface Verdict<I, O> {
  readonly ok: boolean;
  /** The longest order found; of a history that is not linearizable: what came before it was stuck. */
  readonly order: readonly Operation<I, O>[];
  /** Operations of which none can come next. */
  readonly stuck: readonly Operation<I, O>[];
}

const MAX_STEPS = 5_000_000;

/**
 * Looks for an order of all operations of one object in which each takes effect between its begin and its end and the
 * model gives every answer (Wing and Gong 1993, with Lowe's memory of states seen: same operations done, same state).
 * @throws if the search is too long to decide
 */
export function checkLinearizable<S extends string, I, O>(
  history: readonly Operation<I, O>[],
  model: SequentialModel<S, I, O>,
): Verdict<I, O> {
  const operations = [...history].sort((a, b) => a.beganAt - b.beganAt);
  const known = operations.filter((one) => one.output !== undefined).length;
  const done = operations.map(() => false);
  const order: number[] = [];
  const seen = new Set<string>();
  let best: number[] = [];
  let bestStuck: number[] = [];
  let steps = 0;

  const candidates = (): number[] => {
    let firstEnd = Number.POSITIVE_INFINITY;
    for (const [index, one] of operations.entries())
      if (!done[index]) firstEnd = Math.min(firstEnd, one.endedAt);
    const found: number[] = [];
    for (const [index, one] of operations.entries())
      if (!done[index] && one.beganAt <= firstEnd) found.push(index);
    // Known outcomes first: they lead to an end soonest.
    return found.sort((a, b) => operations[a]!.endedAt - operations[b]!.endedAt);
  };

  const search = (state: S, left: number): boolean => {
    if (left === 0) return true;
    if (++steps > MAX_STEPS) throw new Error(`not decided after ${MAX_STEPS} steps`);
    const key = `${state}\n${done.map(Number).join('')}`;
    if (seen.has(key)) return false;
    seen.add(key);
    const next = candidates();
    for (const index of next) {
      const one = operations[index]!;
      const after = model.step(state, one.input, one.output);
      if (after === undefined) continue;
      // An unknown operation that changes nothing need not be placed.
      if (one.output === undefined && after === state) continue;
      done[index] = true;
      order.push(index);
      if (search(after, left - (one.output === undefined ? 0 : 1))) return true;
      if (order.length > best.length) {
        best = [...order];
        bestStuck = candidates();
      }
      order.pop();
      done[index] = false;
    }
    if (best.length === 0) bestStuck = next;
    return false;
  };

  const ok = search(model.initial, known);
  return {
    ok,
    order: (ok ? order : best).map((index) => operations[index]!),
    stuck: ok ? [] : bestStuck.map((index) => operations[index]!),
  };
}
