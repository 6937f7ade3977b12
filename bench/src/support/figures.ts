/** Middle value; of an even count the lower one. */
export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/** Nearest-rank percentile. */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new TypeError('no values');
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!;
}

/** What most took, what the slowest took, and the slowest of all. */
export function spread(values: readonly number[], digits = 1) {
  return {
    p50: round(median(values), digits),
    p99: round(percentile(values, 99), digits),
    max: round(Math.max(...values), digits),
  };
}

export function round(value: number, digits = 3): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;
