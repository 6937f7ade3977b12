import { ExpiringMap } from '@sepia/base/expiring-map';

/** Heartbeats of a former process after which there are two: one that was late on its way makes two of them. */
const MIN_RETURNS = 3;
const MAX_CHANGES = 10_000;

/** A process as a node's heartbeats tell of it. */
interface Process {
  readonly bootId: string;
  /** Of its swarm port. */
  readonly address: string | undefined;
}

interface Change {
  readonly from: Process;
  readonly returns: number;
}

/**
 * Ids that two processes bear at once, as after a copy of a config or of a data folder: their heartbeats come by turns, while
 * a process that was started anew leaves the former one behind for good. Pure; time is passed in, in ms.
 */
export class Twins {
  readonly #changes = new ExpiringMap<Change>(MAX_CHANGES);

  /** A heartbeat came from another process than the one before it, `from`; it is remembered for `keepMs`. */
  changed(nodeId: string, from: Process, bootId: string, nowMs: number, keepMs: number): void {
    const before = this.#changes.get(nodeId, nowMs);
    const returns = before?.from.bootId === bootId ? before.returns + 1 : 0;
    this.#changes.set(nodeId, { from, returns }, nowMs + keepMs);
  }

  /** The other process that uses the same node id, if there is one. */
  of(nodeId: string, nowMs: number): Process | undefined {
    const change = this.#changes.get(nodeId, nowMs);
    return change !== undefined && change.returns >= MIN_RETURNS ? change.from : undefined;
  }
}
