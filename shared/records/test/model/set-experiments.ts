import type { SetRules, SetScope } from './set-state.ts';

/** One experiment: what may happen and which rules are dropped. It holds, or (`breaks`) is found out. */
export interface SetExperiment {
  readonly scope: SetScope;
  readonly rules?: Partial<SetRules>;
  readonly breaks?: true;
  /** Found where values join by field. */
  readonly byField?: true;
  /** The run of seed 1 in which chance finds it. */
  readonly found?: number;
  /** Steps of a run, where chance needs more of them. */
  readonly steps?: number;
}

const ANY = ['any', 'any', 'any'] as const;
const DROPS: SetScope = { writes: ANY, drops: true };
const OFF: SetScope = { ...DROPS, skews: [-3, 0, 3] };
const WIPE: SetScope = { ...DROPS, wipes: 1 };
const SET_BACK: SetScope = { ...DROPS, setBacks: 1 };
const REJOIN: SetScope = { ...DROPS, rejoins: true };
const BESIDE: SetScope = { writes: ANY, setBacks: 1, kills: 2 };
const FLOORS: SetScope = { writes: ANY, floors: 3, skews: [-3, 0, 3] };
const FLOORS_SET_BACK: SetScope = { ...FLOORS, writes: ['put', 'delete'], setBacks: 1, kills: 1 };
const REPLACED = [['A', 'B', 'D']] as const;
const RETURNED = [...REPLACED, ['A', 'B', 'C']] as const;
const PUT_DELETE: SetScope = { ...DROPS, writes: ['put', 'delete'] };

/** The experiments by name: those of the design's model, and those of a start beside a fault. */
export const SET_EXPERIMENTS: Readonly<Record<string, SetExperiment>> = {
  plain: { scope: DROPS },
  'clocks are off': { scope: OFF },
  'a disk is lost': { scope: WIPE },
  'a disk is lost, tombstones go during the handover': { scope: WIPE, rules: { dropsInHandover: true } },
  'a disk is lost, a confirmation outlives its generation': {
    scope: WIPE,
    rules: { dropsInHandover: true, confirmationOutlives: true },
  },
  'a disk is set back': { scope: SET_BACK },
  'removed and added again': { scope: REJOIN },
  'starts beside a disk that is lost': { scope: { writes: ANY, wipes: 1, kills: 2 } },
  'starts beside a disk that is set back': { scope: BESIDE },
  'starts while tombstones go': { scope: { ...DROPS, kills: 3 } },

  'tombstones go below a floor': { scope: FLOORS },
  'below a floor, a disk is lost': { scope: { ...FLOORS, wipes: 1 } },
  'below a floor, a disk is lost beside starts': { scope: { ...FLOORS, wipes: 1, kills: 2 } },
  'below a floor, a disk is set back': { scope: { ...FLOORS, setBacks: 1 } },
  'below a floor, a disk is set back beside starts': { scope: { ...FLOORS, setBacks: 1, kills: 2 } },
  'below a floor, what was deleted on a disk set back beside a start': { scope: FLOORS_SET_BACK },
  'below a floor, removed and added again beside starts': { scope: { ...FLOORS, rejoins: true, kills: 2 } },

  'a member is added and drained': { scope: { writes: ANY, rings: REPLACED, skews: [-3, 0, 3] } },
  'a member is drained and comes back with its disk': { scope: { writes: ANY, rings: RETURNED } },
  'below a floor, a member is added and drained': { scope: { ...FLOORS, rings: REPLACED } },
  'below a floor, the ring changes and a disk is lost': { scope: { ...FLOORS, rings: REPLACED, wipes: 1 } },
  'below a floor, the ring changes and a disk is set back': {
    scope: { ...FLOORS, rings: REPLACED, setBacks: 1 },
  },
  'below a floor, the ring changes beside starts': { scope: { ...FLOORS, rings: REPLACED, kills: 2 } },
  'below a floor, a member is drained and comes back with its disk': {
    scope: { ...FLOORS, rings: RETURNED },
  },
  'below a floor, what was deleted on a disk that comes back': {
    scope: { ...FLOORS, writes: ['put', 'delete'], rings: RETURNED, kills: 1 },
  },
  'below a floor, garbage is collected': { scope: { ...FLOORS, buries: 2 } },
  'below a floor, garbage is collected, a disk is set back': { scope: { ...FLOORS, buries: 1, setBacks: 1 } },
  'below a floor, garbage is collected, the ring changes': {
    scope: { ...FLOORS, buries: 1, rings: REPLACED },
  },

  'clocks alone decide': { scope: OFF, rules: { trustsClocks: true }, breaks: true, found: 37 },
  'a write is news in part': {
    scope: OFF,
    rules: { newsIsEnough: true },
    breaks: true,
    byField: true,
    found: 641,
  },
  'the same under a later clock is enough': {
    scope: { ...OFF, writes: ['put', 'delete', 'delete'] },
    rules: { sameIsEnough: true },
    breaks: true,
    steps: 120,
    found: 3870,
  },
  'generations mix': { scope: WIPE, rules: { mixesGenerations: true }, breaks: true, found: 242 },
  'a majority confirms': { scope: DROPS, rules: { majorityConfirms: true }, breaks: true, found: 265 },
  'old messages outlive tombstones': {
    scope: DROPS,
    rules: { messagesOutlive: true },
    breaks: true,
    found: 25,
  },
  'a disk set back keeps its entries': {
    scope: { ...PUT_DELETE, setBacks: 1 },
    rules: { keepsAlone: true },
    breaks: true,
    found: 321,
  },
  'added again with its entries': {
    scope: { ...PUT_DELETE, rejoins: true },
    rules: { keepsAlone: true },
    breaks: true,
    found: 65,
  },
  'who does not count is believed': {
    scope: { ...BESIDE, writes: ['put'] },
    rules: { believesAnyone: true },
    breaks: true,
    found: 142,
  },
  'records are taken from who does not count': {
    scope: { ...PUT_DELETE, setBacks: 1 },
    rules: { repairsFromAnyone: true },
    breaks: true,
    found: 86,
  },
  'a start beside a disk that is set back, tombstones go': {
    scope: { ...PUT_DELETE, setBacks: 1, kills: 1 },
    breaks: true,
    found: 389,
  },
  'a floor without a promise': {
    scope: FLOORS,
    rules: { promisesNothing: true },
    breaks: true,
    found: 16_129,
  },
  'what is below the floor is taken': {
    scope: FLOORS,
    rules: { forgetsFloor: true },
    breaks: true,
    found: 178,
  },
  'a floor without its entries in a ring change': {
    scope: { writes: ['put'], floors: 1, rings: REPLACED },
    rules: { takesFloorFirst: true },
    breaks: true,
    found: 160,
  },
  'a ring change that ends early': {
    scope: { writes: ['put'], rings: REPLACED },
    rules: { endsEarly: true },
    breaks: true,
    found: 3_599,
  },
  'what a disk that comes back has stays': {
    scope: { ...FLOORS, writes: ['put', 'delete'], rings: RETURNED },
    rules: { ignoresHigherFloor: true },
    breaks: true,
    found: 1_748,
  },
  'garbage is collected at its clock, whatever was promised': {
    scope: { ...FLOORS, buries: 2 },
    rules: { buriesBelow: true },
    breaks: true,
    found: 67,
  },
};
