/**
 * docs/gc.md: the last 50 moves of a tag that stands keep their manifests. A push that was repeated and a delete are moves
 * too, so that of those which a client knows fewer are sure, and none beyond.
 */
const SURE_MOVES = 20;
const MOVES = 50;

/** A manifest as a client made it, and what it names. Digests throughout. */
export interface Made {
  readonly digest: string;
  readonly bytes: Buffer;
  readonly mediaType: string;
  readonly blobs: readonly string[];
  readonly children: readonly string[];
  readonly subject: string | undefined;
}

interface Tag {
  /** All moves, the last one last. */
  readonly moves: readonly string[];
  /** Where those since its last delete begin. */
  readonly since: number;
  readonly stands: boolean;
}

/**
 * What one client was told of its own tags and manifests in a repository: the judge of what a collection must leave and
 * what it must take. Nobody else writes these tags, so that there is one right answer at every moment.
 */
export class Content {
  readonly #tags = new Map<string, Tag>();
  readonly #made = new Map<string, Made>();
  readonly #taken = new Set<string>();

  /** A manifest with a 201, by tag or (undefined) by digest. */
  pushed(made: Made, tag: string | undefined): void {
    this.#made.set(made.digest, made);
    this.#taken.delete(made.digest);
    if (tag === undefined) return;
    const { moves = [], since = 0 } = this.#tags.get(tag) ?? {};
    this.#tags.set(tag, { moves: [...moves, made.digest], since, stands: true });
  }

  untagged(tag: string): void {
    const known = this.#tags.get(tag);
    if (known !== undefined) this.#tags.set(tag, { ...known, since: known.moves.length, stands: false });
  }

  /** A manifest that was deleted by its digest: tags that point at it go with it. */
  deleted(digest: string): void {
    this.#taken.add(digest);
    for (const [tag, { moves, stands }] of this.#tags)
      if (stands && moves.at(-1) === digest) this.untagged(tag);
  }

  /** Tags that stand, and where they point. */
  get tags(): ReadonlyMap<string, Made> {
    const standing = [...this.#tags].filter(([, { stands }]) => stands);
    return new Map(standing.map(([tag, { moves }]) => [tag, this.#made.get(moves.at(-1)!)!]));
  }

  /** What must be there: what tags and their history lead to, down to children, and subjects to what names them. */
  mustStay(): ReadonlyMap<string, Made> {
    return this.#reach(({ moves, since }) => moves.slice(Math.max(since, moves.length - SURE_MOVES)));
  }

  /** What may be there; after a collection without anything younger than its grace, nothing else is. */
  mayStay(): ReadonlyMap<string, Made> {
    return this.#reach(({ moves }) => moves.slice(-MOVES));
  }

  /** All that was ever pushed. */
  get made(): ReadonlyMap<string, Made> {
    return this.#made;
  }

  #reach(movesOf: (tag: Tag) => readonly string[]): ReadonlyMap<string, Made> {
    const found = new Map<string, Made>();
    const open = [...this.#tags.values()].filter(({ stands }) => stands).flatMap(movesOf);
    for (let digest = open.pop(); digest !== undefined; digest = open.pop()) {
      const made = this.#made.get(digest);
      if (made === undefined || this.#taken.has(digest) || found.has(digest)) continue;
      found.set(digest, made);
      open.push(...made.children);
      for (const other of this.#made.values()) if (other.subject === made.digest) open.push(other.digest);
    }
    return found;
  }
}
