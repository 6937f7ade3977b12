import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { LogLimit } from '@sepia/base/log-limit';
import { COPY_SAID_MS } from '../deadlines/members.ts';

/** Lines of all owners and reasons in that time. */
const MAX_LINES = 20;

/** Says which copies failed: while an owner is away, as in an upgrade, every push has one of those. */
export class CopyFailures {
  readonly #deps: { readonly log: Logger; readonly nowMs: () => number };
  readonly #limit = new LogLimit({ everyMs: COPY_SAID_MS, lines: MAX_LINES });

  constructor(deps: { readonly log: Logger; readonly nowMs: () => number }) {
    this.#deps = deps;
  }

  /** A line for an owner and reason now and then; `unsaid`: how many failures had none since the last. */
  note(digest: Digest, target: string, error: unknown): void {
    const { log, nowMs } = this.#deps;
    const unsaid = this.#limit.take(`${target} ${isCoded(error) ? error.code : ''}`, nowMs());
    if (unsaid === undefined) return;
    const facts = { digest, target, reason: String(error), ...(unsaid === 0 ? {} : { unsaid }) };
    log.warn(facts, 'copy failed; it is made later');
  }
}

/** What an owner said of its disk: an operator can mend that. */
export const diskTold = (error: unknown): string =>
  isCoded(error, 'DISK_FULL') || isCoded(error, 'DISK_FAILED') ? `: ${error.message}` : '';
