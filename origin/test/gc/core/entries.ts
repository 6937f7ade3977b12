import { joinWhole } from '@sepia/records/core/join';

/** An entry of the model's sets; a tombstone without value. */
export interface Clocked {
  readonly atMs: number;
  readonly value?: true;
}

/** What an owner keeps of two entries of a key. */
export function joined(known: Clocked | undefined, record: Clocked): Clocked {
  return known === undefined ? record : (joinWhole(known, record) as Clocked);
}

/** The entry that stands, of what owners answered. */
export function latest(answers: readonly (Clocked | undefined)[]): Clocked | undefined {
  return answers.reduce((a, b) => (b === undefined ? a : joined(a, b)), undefined);
}
