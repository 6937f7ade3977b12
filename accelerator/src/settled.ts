import { type ConversionJob, type ConversionTask, conversionKey } from '@sepia/cluster/api/conversions';

/** A scan leaves a source alone for so long after its job died, in ms. */
const REST_MS = 3_600_000;

/** What a scan need not put into the queue again: the same source would end the same way, or somebody said no. */
export class Settled {
  readonly #digests = new Map<string, Set<string>>();

  /** @param nowMs by the clock that dates the jobs */
  constructor(jobs: readonly ConversionJob[], nowMs: number) {
    for (const { payload, state, endedAtMs = nowMs } of jobs) {
      const rests = state === 'cancelled' || (state === 'dead' && nowMs - endedAtMs < REST_MS);
      if (!rests || payload.digest === undefined) continue;
      const key = keyOf(payload);
      const digests = this.#digests.get(key) ?? new Set();
      this.#digests.set(key, digests.add(payload.digest));
    }
  }

  /** True if a job about this very source was cancelled, or died lately; false where the source is not known. */
  has(task: ConversionTask): boolean {
    return task.digest !== undefined && (this.#digests.get(keyOf(task))?.has(task.digest) ?? false);
  }
}

function keyOf(task: ConversionTask): string {
  return `${task.kind}\n${conversionKey(task)}`;
}
