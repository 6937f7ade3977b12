import type { AnswerPace } from '@sepia/http/answer-pace';
import {
  LEAST_GRACE_MS,
  LEAST_LATE_MS,
  LEAST_POLL_SLACK_MS,
  MOST_LATE_MS,
  MOST_SILENCE_MS,
  POLL_MS,
} from '../../deadlines.ts';

/** The leader may be so many times slower with that answer than the slowest of the others, and `LEAST_GRACE_MS` in any case. */
const SLOWER = 8;
/** Of polls that are answered, the share beside which all may be asked in vain; so many in a row. */
const IN_VAIN = 0.05;
const MOST_IN_VAIN = 5;

/** When a poll at the leader of a blob is late, in ms. */
export interface PollWaits {
  /** From its own wait, `POLL_MS`, on: all are asked what they have, beside it; never where that was in vain too often. */
  readonly lateMs: number | undefined;
  /** From its start: it has failed. */
  readonly goneMs: number;
}

/**
 * How long the leader of a blob that is fetched is waited for. One that hangs costs all who pull the blob this time; one
 * that is only slow must not be taken for it, or the upstream is asked twice. So one late poll alone says nothing: beside it
 * all are asked what they have, and a leader that is silent to that as well, while the others answer, is gone. What is
 * asked in vain is bounded. Pure: time and pace are passed in.
 */
export class LeaderWait {
  readonly #pace: AnswerPace;
  #mayLook = MOST_IN_VAIN;

  /** `pace`: how fast origins answer what needs no thought. */
  constructor(pace: AnswerPace) {
    this.#pace = pace;
  }

  /** How long the next poll is waited for. */
  next(): PollWaits {
    const lateMs = this.#pace.timeoutMs(LEAST_LATE_MS, MOST_LATE_MS);
    const slackMs = this.#pace.timeoutMs(LEAST_POLL_SLACK_MS, MOST_SILENCE_MS);
    return { lateMs: this.#mayLook >= 1 ? lateMs : undefined, goneMs: POLL_MS + slackMs };
  }

  /** The leader answered a poll after `ms`; with nothing new it tells how late answers are. */
  answered(ms: number, isNews: boolean): void {
    if (!isNews) this.#pace.note(ms - POLL_MS);
    this.#mayLook = Math.min(MOST_IN_VAIN, this.#mayLook + IN_VAIN);
  }

  /** All are asked beside a poll; {@link found} when the leader was silent to that too. */
  looked(): void {
    this.#mayLook -= 1;
  }

  /** A look was not in vain: one more may be made. */
  found(): void {
    this.#mayLook = Math.min(MOST_IN_VAIN, this.#mayLook + 1);
  }
}

/** How much longer one is waited for, at least until `leastMs`, once others have said what they have after `othersMs`; in ms. */
export function graceMs(othersMs: number, leastMs: number = LEAST_GRACE_MS): number {
  const ms = Math.min(MOST_SILENCE_MS, Math.max(leastMs, SLOWER * othersMs));
  return Math.max(0, ms - othersMs);
}
