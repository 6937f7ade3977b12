/** When and whether an agent may ask the upstream itself. */
export interface BackToSourcePolicy {
  readonly mode: 'never' | 'auto';
  readonly afterMs: number;
}

/**
 * How long to wait before asking the upstream, in ms, counted from when everybody fell silent; undefined = never.
 * The start is spread over `afterMs` by `fraction` (0…1, from node and digest), so that a thousand nodes that lost
 * their cluster do not arrive at once.
 */
export function sourceDelayMs(
  policy: BackToSourcePolicy,
  upstreamHasUrl: boolean,
  silentForMs: number,
  fraction: number,
): number | undefined {
  if (policy.mode === 'never' || !upstreamHasUrl) return undefined;
  return Math.max(0, policy.afterMs * (1 + fraction) - silentForMs);
}
