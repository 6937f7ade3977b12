import { EMPTY_IDLE_MS, EMPTY_YIELDS_MS } from '../../deadlines/own.ts';

/** What decides over an upload session. */
export interface SessionFacts {
  /** Whose it is, as its proxy says. */
  readonly client: string;
  /** Bytes that it holds. */
  readonly offset: number;
  /** A request writes to it now. */
  readonly busy: boolean;
  readonly usedAtMs: number;
}

/** True once nobody is expected to come back: `idleMs` for a session with bytes, at most {@link EMPTY_IDLE_MS} for an empty one. */
export function isOver(session: SessionFacts, idleMs: number, nowMs: number): boolean {
  const limitMs = session.offset === 0 ? Math.min(idleMs, EMPTY_IDLE_MS) : idleMs;
  return !session.busy && nowMs - session.usedAtMs >= limitMs;
}

/** Places for sessions and for blobs that come in one go, in all and of one client. */
export interface SessionLimits {
  readonly all: number;
  readonly perClient: number;
}

/** A place for one more, maybe instead of a session that ends for it; or none, because of which limit. */
export type Admission<S> =
  | { readonly type: 'go'; readonly instead: readonly S[] }
  | { readonly type: 'refuse'; readonly limit: keyof SessionLimits };

/**
 * Admits one more of `client`. The limit of one client comes before that of all. Where one is reached, the longest
 * silent session without a byte gives up its place: a client's own at once, another's after {@link EMPTY_YIELDS_MS}. So
 * sessions that somebody begins and leaves stop nobody's push, and what was sent is never lost for it.
 * `oneGo`: the client of each blob that comes in one go. A client that is not known ('') has the limit of all alone.
 */
export function admitSession<S extends SessionFacts>(
  sessions: readonly S[],
  oneGo: readonly string[],
  client: string,
  limits: SessionLimits,
  nowMs: number,
): Admission<S> {
  const instead: S[] = [];
  const own = sessions.filter((one) => one.client === client);
  if (client !== '' && own.length + oneGo.filter((one) => one === client).length >= limits.perClient) {
    const yields = longestEmpty(own, nowMs);
    if (yields === undefined) return { type: 'refuse', limit: 'perClient' };
    instead.push(yields);
  }
  if (sessions.length + oneGo.length - instead.length >= limits.all) {
    const others = sessions.filter((one) => !instead.includes(one));
    const yields = longestEmpty(others, nowMs - EMPTY_YIELDS_MS);
    if (yields === undefined) return { type: 'refuse', limit: 'all' };
    instead.push(yields);
  }
  return { type: 'go', instead };
}

/** The longest silent of the sessions without a byte that nobody has used since `sinceMs`. */
function longestEmpty<S extends SessionFacts>(sessions: readonly S[], sinceMs: number): S | undefined {
  let found: S | undefined;
  for (const one of sessions) {
    if (one.busy || one.offset > 0 || one.usedAtMs > sinceMs) continue;
    if (found === undefined || one.usedAtMs < found.usedAtMs) found = one;
  }
  return found;
}
