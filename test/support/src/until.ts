const MIN_PAUSE_MS = 20;
const MAX_PAUSE_MS = 200;

/**
 * Resolves with what `look` finds as soon as that is neither undefined nor false; asks again and again until then, after a
 * pause as long as the look itself was (20 to 200 ms): what is dear to look at takes half a core at most while others work.
 */
export async function until<T>(
  look: () => T | undefined | false | Promise<T | undefined | false>,
  what: string,
  withinMs = 60_000,
): Promise<T> {
  const deadlineMs = performance.now() + withinMs;
  for (;;) {
    const beginMs = performance.now();
    const found = await look();
    if (found !== undefined && found !== false) return found;
    const endMs = performance.now();
    if (endMs > deadlineMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    const pauseMs = Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, endMs - beginMs));
    await new Promise<void>((resolve) => setTimeout(resolve, pauseMs));
  }
}

/** As clients do: asks again while a member that is busy, or that just started, answers 503. */
export async function untilAnswered<Answer extends { readonly status: number }>(
  ask: () => Promise<Answer>,
  what: string,
  withinMs?: number,
): Promise<Answer> {
  return await until(
    async () => {
      const answer = await ask();
      return answer.status === 503 ? undefined : answer;
    },
    what,
    withinMs,
  );
}
