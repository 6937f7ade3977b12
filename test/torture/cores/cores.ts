import type { Options } from '../options.ts';
import type { SabotageName } from '../sabotage/names.ts';
import { powerLossRuns } from './power-loss.ts';
import { registerRuns } from './registers.ts';
import { setOwnerRuns, setRuns } from './sets.ts';

const REGISTER_RUNS = 20;
const SET_RUNS = 500;
const SET_OWNER_RUNS = 10;
const POWER_LOSSES = 100;
/** A core that was broken is looked at longer: chance has to find it. */
const LONGER = 40;

type Found = { readonly kind: 'lost' | 'stale'; readonly text: string };
type Search = (seed: number, times: number, sabotage: SabotageName | undefined) => Promise<Found | undefined>;

const registers: Search = async (seed, times) => asFound('lost', registerRuns(seed, REGISTER_RUNS * times));
const disks: Search = async (seed, times, sabotage) =>
  asFound('lost', await powerLossRuns(seed, POWER_LOSSES * times, sabotage === 'fsync-skipped'));
const sets: Search = async (seed, times) => asFound('stale', setRuns(seed, SET_RUNS * times));
const setOwners: Search = async (seed, times) => asFound('lost', setOwnerRuns(seed, SET_OWNER_RUNS * times));

/** Where each sabotage of a core must show. */
const SEARCHES: Readonly<Partial<Record<SabotageName, Search>>> = {
  'empty-acceptor-votes': registers,
  'promise-forgotten': registers,
  'owner-skipped': registers,
  'fsync-skipped': disks,
  'merge-depends-on-order': sets,
};

/** What breaks in the cores that ship when they run under the model's schedules; undefined: nothing. */
export async function coreRuns(
  { seed, sabotage }: Pick<Options, 'seed' | 'sabotage'>,
  log: (text: string) => void,
): Promise<Found | undefined> {
  const startedMs = performance.now();
  let found: Found | undefined;
  if (sabotage === undefined)
    for (const search of [registers, disks, sets, setOwners]) found ??= await search(seed, 1, undefined);
  else found = await SEARCHES[sabotage]?.(seed, LONGER, sabotage);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  log(`cores (registers, sets, power loss), ${seconds} s: ${found?.text ?? 'all as they should be'}`);
  return found;
}

/** True if a sabotage is of the cores alone: no process is needed to see it. */
export function isOfCores(sabotage: SabotageName | undefined): boolean {
  return sabotage !== undefined && SEARCHES[sabotage] !== undefined;
}

function asFound(kind: Found['kind'], text: string | undefined): Found | undefined {
  return text === undefined ? undefined : { kind, text };
}
