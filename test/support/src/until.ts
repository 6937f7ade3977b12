const EVERY_MS = 20;

/** Resolves with what `look` finds as soon as that is neither undefined nor false; asks again and again until then. */
export async function until<T>(
  look: () => T | undefined | false | Promise<T | undefined | false>,
  what: string,
  withinMs = 60_000,
): Promise<T> {
  const deadlineMs = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadlineMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise<void>((resolve) => setTimeout(resolve, EVERY_MS));
  }
}
