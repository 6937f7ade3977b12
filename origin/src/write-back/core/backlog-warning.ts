/** What waits for the registry behind one upstream. */
interface Backlog {
  readonly upstream: string;
  readonly waiting: number;
  readonly dead: number;
  readonly oldestMs?: number | undefined;
}

/** The warning about pushes that wait longer than `warn-after` (ms) or were given up; undefined: all is well. */
export function backlogWarning(
  { upstream, waiting, dead, oldestMs = 0 }: Backlog,
  rules: { readonly 'warn-after': number },
): string | undefined {
  const parts: string[] = [];
  if (waiting > 0 && oldestMs > rules['warn-after'])
    parts.push(`${waiting} pushes wait, the oldest for ${Math.round(oldestMs / 60_000)} min`);
  if (dead > 0) parts.push(`${dead} were given up`);
  if (parts.length === 0) return undefined;
  return `write-back to ${upstream}: ${parts.join(', ')}; see "sepia write-back status"`;
}
