import { randomBytes } from 'node:crypto';

/** Writes in doubt that are remembered; the oldest is forgotten for the next. */
const MAX_DOUBTED = 1_000;

/**
 * Ids of what this process notifies the others of. It hears its own notes, too, and knows of those writes already;
 * except of one whose answer was lost: its note, however late, is how this process hears that it was made.
 */
export class OwnNotes {
  readonly #self = `${randomBytes(8).toString('hex')}.`;
  readonly #doubted = new Set<string>();
  #count = 0;

  /** Id of the next write. */
  next(): string {
    this.#count += 1;
    return `${this.#self}${this.#count}`;
  }

  /** The answer of this write was lost. */
  doubt(id: string): void {
    this.#doubted.add(id);
    if (this.#doubted.size <= MAX_DOUBTED) return;
    for (const oldest of this.#doubted) {
      this.#doubted.delete(oldest);
      return;
    }
  }

  /** True if a note says nothing new here. */
  isTold(id: string): boolean {
    return id.startsWith(this.#self) && !this.#doubted.delete(id);
  }
}
