import type { Rules, ScopeInit } from './scope.ts';

/** One experiment: what may happen, which rules are dropped, how long a run is. It holds, or (`breaks`) is found out. */
export interface Experiment {
  readonly scope: ScopeInit;
  readonly rules?: Partial<Rules>;
  readonly steps: number;
  readonly breaks?: true;
  /** The run of seed 1 in which chance finds it. */
  readonly found?: number;
}

const ABC = ['A', 'B', 'C'];
const BCD = ['B', 'C', 'D'];
const DEF = ['D', 'E', 'F'];
const RING = [[ABC], [ABC, BCD], [BCD]];
const THERE_AND_BACK = [...RING, [BCD, ABC], [ABC]];
const TWICE = [...THERE_AND_BACK, [ABC, BCD], [BCD]];
const RING6 = [[ABC], [ABC, DEF], [DEF]];

const THREE = [
  ['append', 'append'],
  ['append', 'read'],
  ['read', 'append', 'read'],
] as const;
const ADMIN = [...THREE, ['rewrite', 'rewrite']] as const;
const BUSY = { work: THREE, attempts: 4, givesUp: true };
const WIPE = { ...BUSY, wipes: 1 };
const HEAR = { work: [['append'], ['append'], ['read']], attempts: 1, wipes: 1 } as const;
const SMALL = { work: [['append'], ['read'], ['rewrite']], epochs: RING, attempts: 1, wipes: 1 } as const;
const PAIR = { work: [['append'], ['append']], attempts: 1, wipes: 1, wipeOnly: ['A'] } as const;
const FORMER = {
  epochs: TWICE,
  work: [...THREE, ['rewrite', 'rewrite', 'rewrite']],
  attempts: 5,
  givesUp: true,
  repairs: true,
  drops: true,
} as const;
const FORMER_SMALL = {
  epochs: THERE_AND_BACK,
  work: [
    ['append', 'append'],
    ['rewrite', 'rewrite'],
  ],
  attempts: 2,
  drops: true,
} as const;
const RING_BUSY = { epochs: RING, work: ADMIN, attempts: 4 };

/** The experiments by name, those of the design's model. */
export const EXPERIMENTS: Readonly<Record<string, Experiment>> = {
  plain: { scope: { ...BUSY, repairs: true }, steps: 150 },
  'a disk is lost': { scope: { ...WIPE, repairs: true }, steps: 150 },
  'three disks, one after another': { scope: { ...WIPE, wipes: 3, repairs: true }, steps: 220 },
  'two disks at once': { scope: { ...WIPE, wipes: 2, overlap: true }, steps: 200 },
  'a disk is set back': {
    scope: { ...BUSY, setBacks: 1, snapshots: 2, restarts: 3, repairs: true },
    steps: 220,
  },
  'set back, then lost': { scope: { ...WIPE, setBacks: 1, snapshots: 2, repairs: true }, steps: 240 },
  'restarts and a lost disk': { scope: { ...WIPE, restarts: 4, repairs: true }, steps: 240 },
  'two owners': { scope: { ...WIPE, epochs: [[['A', 'B']]], repairs: true }, steps: 120 },
  'five owners': { scope: { ...WIPE, epochs: [[['A', 'B', 'C', 'D', 'E']]], repairs: true }, steps: 160 },
  'handed over below a promise': { scope: HEAR, steps: 90 },
  'ring of 3, 4, 3': { scope: { ...RING_BUSY, givesUp: true, repairs: true }, steps: 240 },
  'ring there and back': {
    scope: { ...RING_BUSY, epochs: THERE_AND_BACK, attempts: 5, givesUp: true, repairs: true },
    steps: 300,
  },
  'ring of 3 to 6': { scope: { ...RING_BUSY, epochs: RING6, givesUp: true, repairs: true }, steps: 260 },
  'ring and a lost disk': { scope: { ...RING_BUSY, wipes: 1, givesUp: true, repairs: true }, steps: 260 },
  'ring and a disk set back': {
    scope: { ...RING_BUSY, snapshots: 2, setBacks: 1, givesUp: true, repairs: true },
    steps: 300,
  },
  'small ring and a lost disk': { scope: SMALL, steps: 70 },
  'former owners drop what they had': { scope: FORMER, steps: 400 },
  'a few steps, former owners drop what they had': { scope: FORMER_SMALL, steps: 120 },
  'former owners drop, a disk is lost': { scope: { ...FORMER, wipes: 1 }, steps: 400 },
  'former owners drop, a disk is set back': {
    scope: { ...FORMER, snapshots: 2, setBacks: 1, restarts: 2 },
    steps: 400,
  },

  'a promise is forgotten': {
    scope: { work: THREE, attempts: 4 },
    rules: { forgetsPromise: true },
    steps: 150,
    breaks: true,
    found: 0,
  },
  'repair writes the later record': {
    scope: { ...BUSY, repairs: true },
    rules: { plainRepair: true },
    steps: 150,
    breaks: true,
    found: 1,
  },
  'generations mix': {
    scope: PAIR,
    rules: { mixesGenerations: true },
    steps: 50,
    breaks: true,
    found: 402,
  },
  'an owner is skipped': { scope: WIPE, rules: { skipsOwner: true }, steps: 150, breaks: true, found: 33 },
  'promises are not handed over': {
    scope: WIPE,
    rules: { losesPromised: true },
    steps: 150,
    breaks: true,
    found: 35,
  },
  'accepts are not handed over': {
    scope: WIPE,
    rules: { losesAccepted: true },
    steps: 150,
    breaks: true,
    found: 18,
  },
  'the generation is recorded later': {
    scope: PAIR,
    rules: { recordsLater: true },
    steps: 50,
    breaks: true,
    found: 402,
  },
  'an empty acceptor votes': {
    scope: WIPE,
    rules: { answersEarly: true },
    steps: 150,
    breaks: true,
    found: 10,
  },
  'who has nothing hands over': {
    scope: { ...WIPE, wipes: 2, overlap: true },
    rules: { anySource: true },
    steps: 200,
    breaks: true,
    found: 113,
  },
  'a disk set back keeps its generation': {
    scope: { ...BUSY, setBacks: 1, snapshots: 2 },
    rules: { keepsGeneration: true },
    steps: 200,
    breaks: true,
    found: 5,
  },
  'an old epoch is taken': {
    scope: RING_BUSY,
    rules: { takesOldEpoch: true },
    steps: 220,
    breaks: true,
    found: 5,
  },
  'the new owners alone decide': {
    scope: RING_BUSY,
    rules: { oneSetOnly: true },
    steps: 220,
    breaks: true,
    found: 1,
  },
  'keys are not rewritten': {
    scope: RING_BUSY,
    rules: { skipsRewrite: true },
    steps: 220,
    breaks: true,
    found: 16,
  },
  'a round goes on in the next epoch': {
    scope: RING_BUSY,
    rules: { goesOnInNextEpoch: true },
    steps: 220,
    breaks: true,
    found: 119,
  },
  'keys are listed at any epoch': {
    scope: { ...SMALL, wipes: 0 },
    rules: { listsAtAnyEpoch: true },
    steps: 70,
    breaks: true,
    found: 47,
  },
  'new owners alone hand over': {
    scope: SMALL,
    rules: { handoverOf: 'new' },
    steps: 70,
    breaks: true,
    found: 43,
  },
  'one of five owners is skipped': {
    scope: { ...WIPE, epochs: [[['A', 'B', 'C', 'D', 'E']]] },
    rules: { skipsOwner: true },
    steps: 160,
    breaks: true,
    found: 191,
  },
  'an accept below a promise is read': {
    scope: HEAR,
    rules: { countsHearsay: true },
    steps: 90,
    breaks: true,
    found: 44_084,
  },
  'old owners drop while the ring changes': {
    scope: FORMER,
    rules: { dropsInChange: true },
    steps: 400,
    breaks: true,
    found: 4,
  },
  'former owners drop without another look': {
    scope: FORMER_SMALL,
    rules: { dropsBlindly: true },
    steps: 120,
    breaks: true,
    found: 7_379,
  },
  'keys with a promise alone stay': {
    scope: { ...SMALL, wipes: 0 },
    rules: { missesPromised: true },
    steps: 70,
    breaks: true,
    found: 31_458,
  },
};
