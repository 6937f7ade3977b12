/** To be awaited before each read or write of what actors share. */
export type Step = () => Promise<void>;

type Actor = <T>(name: string, work: (step: Step) => Promise<T>) => Promise<T>;

/** Most times that an actor is set aside for another one; races that need more are rare, the orders many. */
const MAX_SWITCHES = 4;

/** One order: which of the actors that may go on was taken, of how many, step by step. */
type Path = { taken: number; readonly of: number }[];

/**
 * Runs `once` for every order in which the steps of its actors can happen with at most four switches, one at a time.
 * All that actors wait for beside their steps must come at once.
 * @returns how many orders there were
 */
export async function everyOrder(once: (actor: Actor) => Promise<void>): Promise<number> {
  const path: Path = [];
  for (let orders = 1; ; orders++) {
    await runOrder(path, once);
    while (path.length > 0 && path.at(-1)!.taken + 1 >= path.at(-1)!.of) path.pop();
    const last = path.at(-1);
    if (last === undefined) return orders;
    last.taken += 1;
  }
}

/** Takes the order of `path` as far as it goes, then always the first, and completes `path` with that. */
async function runOrder(path: Path, once: (actor: Actor) => Promise<void>): Promise<void> {
  const waiting = new Map<string, () => void>();
  const actor: Actor = async (name, work) =>
    await work(async () => {
      if (waiting.has(name)) throw new Error(`${name} makes two steps at once`);
      await new Promise<void>((resolve) => waiting.set(name, resolve));
    });
  let isOver = false;
  const ending = once(actor).finally(() => {
    isOver = true;
  });
  ending.catch(() => {});
  let current = '';
  let switches = 0;
  for (let at = 0; ; at++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (isOver) return await ending;
    const mayStay = waiting.has(current);
    const others = [...waiting.keys()].filter((one) => one !== current).sort();
    const names = mayStay ? [current, ...(switches < MAX_SWITCHES ? others : [])] : others;
    if (names.length === 0) throw new Error('nobody goes on');
    const choice = path[at] ?? { taken: 0, of: names.length };
    path[at] = choice;
    const name = names[choice.taken]!;
    if (mayStay && name !== current) switches += 1;
    current = name;
    const go = waiting.get(name)!;
    waiting.delete(name);
    go();
  }
}
