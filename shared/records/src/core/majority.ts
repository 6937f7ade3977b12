/** Majority of the configured owners: 1 of 1, 2 of 2, 2 of 3. */
export function majorityOf(owners: number): number {
  return Math.floor(owners / 2) + 1;
}
