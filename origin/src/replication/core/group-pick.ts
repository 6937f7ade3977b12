/** Jobs that one copy settles, in the order of the queue. */
export interface GroupOf<T> {
  readonly key: string;
  readonly jobs: T[];
}

/** How much is picked. Each rule has an equal share of `jobs`, so that a registry that is away holds up no other. */
interface PickLimits {
  /** Groups of one rule. */
  readonly groups: number;
  /** Jobs of one group. */
  readonly jobsOfGroup: number;
  /** Jobs of all rules together. */
  readonly jobs: number;
}

/** Picks what may run next from a queue of any length: is given one job after the other, keeps the first of them within limits. */
export class GroupPick<T> {
  readonly #limits: PickLimits;
  readonly #share: number;
  readonly #groups = new Map<string, GroupOf<T>>();
  /** What was picked of each rule. */
  readonly #ofRules = new Map<string, { groups: number; jobs: number }>();

  /** `rules`: how many there are. */
  constructor(limits: PickLimits, rules: number) {
    this.#limits = limits;
    this.#share = Math.ceil(limits.jobs / Math.max(1, rules));
  }

  /** What was picked, in the order of their first jobs. */
  get groups(): GroupOf<T>[] {
    return [...this.#groups.values()];
  }

  /** Takes a job into its group if there is room. `mayBegin`: asked where it would be the first of one. */
  add(rule: string, key: string, job: T, mayBegin: (job: T, key: string) => boolean): void {
    const picked = this.#ofRules.get(rule) ?? { groups: 0, jobs: 0 };
    if (picked.jobs >= this.#share) return;
    const group = this.#groups.get(key);
    if (group === undefined) {
      if (picked.groups >= this.#limits.groups || !mayBegin(job, key)) return;
      this.#groups.set(key, { key, jobs: [job] });
      picked.groups += 1;
    } else {
      if (group.jobs.length >= this.#limits.jobsOfGroup) return;
      group.jobs.push(job);
    }
    picked.jobs += 1;
    this.#ofRules.set(rule, picked);
  }
}
