/** Whose a job is, by its key: nobody takes all places, nor all turns. */
export type OwnerOf = (key: string) => string;

/**
 * True if `owner` may not take one more of `places`, of which each of `owners` has one. An owner gets at most as many as it
 * leaves free: one alone has half of them, two a third each, and whoever comes next still gets in. Nobody's
 * (`undefined`) is for whoever comes first, until all are taken.
 */
export function hasNoPlace(
  places: number,
  owners: readonly (string | undefined)[],
  owner: string | undefined,
): boolean {
  const free = places - owners.length;
  if (owner === undefined) return free <= 0;
  return owners.filter((one) => one === owner).length >= Math.max(free, 0);
}
