/** What decides over an upload session. */
export interface SessionFacts {
  /** Bytes that it holds. */
  readonly offset: number;
  /** A request writes to it now. */
  readonly busy: boolean;
  readonly usedAtMs: number;
}

/** A session without a byte ends after this much silence, in ms: clients send the first chunk at once. */
export const EMPTY_IDLE_MS = 5 * 60_000;
/** Where all places are taken, one without a byte makes room after this much silence, in ms. */
export const EMPTY_YIELDS_MS = 2_000;

/** True once nobody is expected to come back: `idleMs` for a session with bytes, at most {@link EMPTY_IDLE_MS} for an empty one. */
export function isOver(session: SessionFacts, idleMs: number, nowMs: number): boolean {
  const limitMs = session.offset === 0 ? Math.min(idleMs, EMPTY_IDLE_MS) : idleMs;
  return !session.busy && nowMs - session.usedAtMs >= limitMs;
}

/**
 * The session that gives up its place for a new one: the longest silent of those without a byte; undefined if there is
 * none. So sessions that somebody begins and leaves stop nobody's push, and what was sent is never lost for it.
 */
export function sessionThatYields<S extends SessionFacts>(
  sessions: Iterable<S>,
  nowMs: number,
): S | undefined {
  let found: S | undefined;
  for (const one of sessions) {
    if (one.busy || one.offset > 0 || nowMs - one.usedAtMs < EMPTY_YIELDS_MS) continue;
    if (found === undefined || one.usedAtMs < found.usedAtMs) found = one;
  }
  return found;
}
