import { type ConversionJob, type ConversionTask, conversionKey } from '../api/conversions.ts';
import { SETTLED_REST_MS } from '../deadlines.ts';

/** What of a job says whether its source is settled. */
type SettledJob = Pick<ConversionJob, 'payload' | 'state' | 'result' | 'endedAtMs'>;

/** What a scan need not put into the queue again: the same source would end the same way, or somebody said no. */
export class Settled {
  readonly #digests = new Map<string, Set<string>>();
  /** Results that were to be taken away lately and cannot be, as where another tag has the same. */
  readonly #stays = new Set<string>();

  /** @param nowMs by the clock that dates the jobs */
  constructor(jobs: readonly SettledJob[], nowMs: number) {
    for (const { payload, state, result, endedAtMs = nowMs } of jobs) {
      // Of an end that is far ahead only a wrong clock can tell.
      const isRecent = Math.abs(nowMs - endedAtMs) < SETTLED_REST_MS;
      if (result?.stays === true && isRecent) this.#stays.add(keyOf(payload));
      const rests = state === 'cancelled' || (state === 'dead' && isRecent);
      if (!rests || payload.digest === undefined) continue;
      const key = keyOf(payload);
      const digests = this.#digests.get(key) ?? new Set();
      this.#digests.set(key, digests.add(payload.digest));
    }
  }

  /** True if a job about this very source was cancelled, or died lately (false where it is not known), or a result could not be taken away lately. */
  has(task: ConversionTask): boolean {
    if (task.kind === 'remove') return this.#stays.has(keyOf(task));
    return task.digest !== undefined && (this.#digests.get(keyOf(task))?.has(task.digest) ?? false);
  }
}

function keyOf(task: ConversionTask): string {
  return `${task.kind}\n${conversionKey(task)}`;
}
