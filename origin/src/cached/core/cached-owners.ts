import type { Ownership } from '@sepia/cluster/ring';

/** Who keeps a cached blob of which there are to be so many copies: the first of its owners. The ring alone decides. */
export function cachedOwners({ owners }: Pick<Ownership, 'owners'>, copies: number): readonly string[] {
  return owners.slice(0, copies);
}
