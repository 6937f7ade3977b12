import { durationText } from '../terminal/format.ts';

/** Who decided in a run of the same nodes on the same network, and what it came to; times in ms. */
export interface Row {
  /**
   * `policy`: Sepia's core; `kraken`: Kraken's policy; both with free CPU and a tracker that answers at once. `calibrated`: Sepia's
   * core with the CPU time, the trackers and the starts of the bench.
   */
  readonly row: 'policy' | 'calibrated' | 'kraken';
  readonly finished: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly lastMs: number;
  /** p99.9 over the limit of the link. */
  readonly overLimit: number;
  readonly originCopies: number;
  readonly wallMs: number;
}

/** The time within which this share of them had finished; 0 where none did. `times` ascend. */
export function percentile(times: readonly number[], share: number): number {
  return times[Math.min(times.length - 1, Math.ceil(share * times.length) - 1)] ?? 0;
}

/** Times at which nodes finished, ascending. */
export function finishTimes(finishedMs: ReadonlyMap<string, number>): number[] {
  return [...finishedMs.values()].sort((a, b) => a - b);
}

export function rowOf(
  row: Row['row'],
  run: { readonly finishedMs: ReadonlyMap<string, number>; readonly originCopies: number },
  facts: { readonly limitMs: number; readonly wallMs: number },
): Row {
  const times = finishTimes(run.finishedMs);
  const p999Ms = percentile(times, 0.999);
  return {
    row,
    finished: times.length,
    p50Ms: percentile(times, 0.5),
    p99Ms: percentile(times, 0.99),
    p999Ms,
    lastMs: times.at(-1) ?? 0,
    overLimit: p999Ms / facts.limitMs,
    originCopies: run.originCopies,
    wallMs: facts.wallMs,
  };
}

/** One line a row. */
export function rowsText(rows: readonly Row[]): string {
  return rows.map((one) => `  ${one.row.padEnd(10)} ${rowText(one)}`).join('\n');
}

/** What a row came to, without its name. */
export function rowText(one: Row): string {
  return `p50 ${durationText(one.p50Ms)}, p99 ${durationText(one.p99Ms)}, p99.9 ${durationText(one.p999Ms)} (${one.overLimit.toFixed(2)} × limit), ${one.originCopies.toFixed(2)} copies, ${one.finished} nodes; simulated in ${durationText(one.wallMs)}`;
}
