import { majority, type Ownership, type Shard } from '@sepia/cluster/ring';

/**
 * Whose copies of a blob count for one push, and who is asked for one in place of an owner that fails: first the pushing member
 * itself, where it is a stand-in and has the blob already, then the other stand-ins, each once and in the order of the ring.
 */
export class Placing {
  /** Those that get a copy at once: all owners but this member, whose own copy counts from the start where it is one. */
  readonly owners: readonly string[];
  readonly #selfId: string;
  readonly #sets: Shard['sets'];
  readonly #holders = new Set<string>();
  /** Stand-ins that nobody has asked yet, this member first. */
  readonly #spare: string[];

  constructor(
    selfId: string,
    { owners, standIns }: Pick<Ownership, 'owners' | 'standIns'>,
    sets: Shard['sets'],
  ) {
    this.owners = owners.filter((id) => id !== selfId);
    this.#selfId = selfId;
    this.#sets = sets;
    const isOwner = owners.includes(selfId);
    if (isOwner) this.#holders.add(selfId);
    this.#spare = standIns.filter((id) => id !== selfId);
    if (!isOwner && standIns.includes(selfId)) this.#spare.unshift(selfId);
  }

  /** How many copies count. */
  get copies(): number {
    return this.#holders.size;
  }

  /** W copies of each set of owners; those of stand-ins count in place of owners that are away. Once true, it stays so. */
  get isEnough(): boolean {
    const owners = new Set(this.#sets.flat());
    const standIns = [...this.#holders].filter((id) => !owners.has(id)).length;
    return this.#sets.every(
      (set) => set.filter((id) => this.#holders.has(id)).length + standIns >= majority(set.length),
    );
  }

  /** A member that was asked has a durable copy. */
  took(id: string): void {
    this.#holders.add(id);
  }

  /** A copy failed. Returns the stand-in that is to be asked for one in its place; undefined where none is needed, or left. */
  failed(): string | undefined {
    if (this.isEnough) return undefined;
    const next = this.#spare.shift();
    if (next !== this.#selfId) return next;
    this.#holders.add(next);
    return undefined;
  }
}
