/** The ring changes of which this origin's part is done, as far as this process knows. */
export class DoneMoves {
  #epoch = -1;

  /** This origin's part of the change of that epoch is done, or of a later one. */
  isDone(epoch: number): boolean {
    return this.#epoch >= epoch;
  }

  note(epoch: number): void {
    this.#epoch = epoch;
  }
}
