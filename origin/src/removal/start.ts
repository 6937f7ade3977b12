import { Deletes } from './deletes.ts';
import { Purges } from './purges.ts';
import { Removals } from './removals.ts';

type Parts = ConstructorParameters<typeof Deletes>[0] &
  ConstructorParameters<typeof Purges>[0] &
  Omit<ConstructorParameters<typeof Removals>[0], 'deletes'>;

/** Builds what takes content away: by a client's word, by an operator's, and from caches alone. */
export function createRemoval(parts: Parts): {
  readonly deletes: Deletes;
  readonly purges: Purges;
  readonly removals: Removals;
} {
  const deletes = new Deletes(parts);
  return { deletes, purges: new Purges(parts), removals: new Removals({ ...parts, deletes }) };
}
