import { isQuorum } from '../../src/core/standing.ts';

/** Rules of the design that an experiment drops, to show that the checker sees it. */
export interface Rules {
  readonly mixesGenerations: boolean;
  readonly forgetsPromise: boolean;
  readonly plainRepair: boolean;
  readonly losesPromised: boolean;
  readonly losesAccepted: boolean;
  readonly recordsLater: boolean;
  readonly answersEarly: boolean;
  readonly skipsOwner: boolean;
  readonly anySource: boolean;
  readonly unorderedGenerations: boolean;
  readonly countsHearsay: boolean;
  readonly keepsGeneration: boolean;
  readonly takesOldEpoch: boolean;
  readonly oneSetOnly: boolean;
  readonly skipsRewrite: boolean;
  readonly listsAtAnyEpoch: boolean;
  readonly missesPromised: boolean;
  readonly goesOnInNextEpoch: boolean;
  readonly keepsEpoch: boolean;
  readonly dropsInChange: boolean;
  readonly dropsBlindly: boolean;
  readonly handoverOf: 'both' | 'old' | 'new';
}

export const NO_RULE_DROPPED: Rules = {
  mixesGenerations: false,
  forgetsPromise: false,
  plainRepair: false,
  losesPromised: false,
  losesAccepted: false,
  recordsLater: false,
  answersEarly: false,
  skipsOwner: false,
  anySource: false,
  unorderedGenerations: false,
  countsHearsay: false,
  keepsGeneration: false,
  takesOldEpoch: false,
  oneSetOnly: false,
  skipsRewrite: false,
  listsAtAnyEpoch: false,
  missesPromised: false,
  goesOnInNextEpoch: false,
  keepsEpoch: false,
  dropsInChange: false,
  dropsBlindly: false,
  handoverOf: 'both',
};

type Work = 'append' | 'read' | 'rewrite';

export interface ScopeInit {
  /** Owner sets per epoch; odd ones are changes, of old and new owners. */
  readonly epochs?: readonly (readonly (readonly string[])[])[];
  /** Operations of each proposer. */
  readonly work: readonly (readonly Work[])[];
  readonly attempts?: number;
  readonly wipes?: number;
  readonly wipeOnly?: readonly string[];
  readonly setBacks?: number;
  readonly snapshots?: number;
  readonly restarts?: number;
  readonly repairs?: boolean;
  readonly givesUp?: boolean;
  /** Who owns the key no longer drops it. */
  readonly drops?: boolean;
  /** The next fault may come before the last is made good. */
  readonly overlap?: boolean;
}

/** What may happen in an experiment, and how often. */
export class Scope {
  readonly epochs: readonly (readonly (readonly string[])[])[];
  readonly members: readonly string[];
  readonly work: readonly (readonly Work[])[];
  readonly attempts: number;
  readonly wipes: number;
  readonly wipeOnly: readonly string[] | undefined;
  readonly setBacks: number;
  readonly snapshots: number;
  readonly restarts: number;
  readonly repairs: boolean;
  readonly givesUp: boolean;
  readonly drops: boolean;
  readonly overlap: boolean;
  readonly #quorums = new Map<string, string[][]>();

  constructor(init: ScopeInit) {
    this.epochs = init.epochs ?? [[['A', 'B', 'C']]];
    this.members = [...new Set(this.epochs.flat(2))].sort();
    this.work = init.work;
    this.attempts = init.attempts ?? 2;
    this.wipes = init.wipes ?? 0;
    this.wipeOnly = init.wipeOnly;
    this.setBacks = init.setBacks ?? 0;
    this.snapshots = init.snapshots ?? 0;
    this.restarts = init.restarts ?? 0;
    this.repairs = init.repairs ?? false;
    this.givesUp = init.givesUp ?? false;
    this.drops = init.drops ?? false;
    this.overlap = init.overlap ?? false;
  }

  sets(epoch: number): readonly (readonly string[])[] {
    return this.epochs[epoch]!;
  }

  /** The smallest sets of members that decide in an epoch. */
  quorums(epoch: number, rules: Pick<Rules, 'oneSetOnly'>): string[][] {
    const key = `${epoch} ${rules.oneSetOnly}`;
    let found = this.#quorums.get(key);
    if (found === undefined) {
      const sets = rules.oneSetOnly ? [this.sets(epoch).at(-1)!] : this.sets(epoch);
      const good = this.subsets([...new Set(sets.flat())]).filter((ids) => isQuorum(ids, sets));
      found = good.filter(
        (ids) => !good.some((other) => other.length < ids.length && other.every((id) => ids.includes(id))),
      );
      this.#quorums.set(key, found);
    }
    return found;
  }

  subsets(ids: readonly string[]): string[][] {
    return Array.from({ length: 2 ** ids.length - 1 }, (_, bits) =>
      ids.filter((_id, index) => (bits + 1) & (1 << index)),
    );
  }
}
