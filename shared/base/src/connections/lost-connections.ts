/**
 * Why a connection came to nothing before its first request: `system`: it was not handed over, as for want of descriptors;
 * `descriptors`: there was none left for its work; `requests`: it sent too many before it had its answers.
 */
type LostBy = 'system' | 'descriptors' | 'requests';

const lost = new Map<LostBy, number>();

/** A listener of this process passed over a connection. */
export function noteLostConnection(why: LostBy): void {
  lost.set(why, (lost.get(why) ?? 0) + 1);
}

/** Connections that listeners of this process passed over, for `sepia_connections_lost_total`. */
export function connectionsLost(): ReadonlyMap<LostBy, number> {
  return lost;
}
