import type { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { LogLimit } from '@sepia/base/log-limit';
import { hostOf } from '@sepia/base/names/host-of';
import { steadyMs } from '@sepia/base/reach';
import type { SwarmLog } from '../swarm.ts';

/** What others can write into the log: a line a host and minute, and so many in all. */
const LINES = { everyMs: 60_000, lines: 20 };

/** Log lines about wires that ended: each bug of ours, and few of what peers send, however much that is. */
export class WireWarnings {
  readonly #log: SwarmLog;
  readonly #limit = new LogLimit(LINES);

  constructor(deps: { readonly log: SwarmLog }) {
    this.#log = deps.log;
  }

  /** `address`: of the peer. A line says how many were left out before it. */
  ended(
    error: CodedError | undefined,
    message: string,
    facts: { readonly address: string | undefined; readonly digest?: string },
  ): void {
    if (error?.code === 'INTERNAL') logFailure(this.#log, error.cause, message, facts);
    if (error?.code !== 'WIRE_INVALID' && error?.code !== 'TLS_REQUIRED') return;
    const leftOut = this.#limit.take(hostOf(facts.address ?? ''), steadyMs());
    if (leftOut === undefined) return;
    this.#log.warn({ error, ...facts, ...(leftOut === 0 ? {} : { leftOut }) }, message);
  }
}
