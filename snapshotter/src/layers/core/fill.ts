import type { Run } from './runs.ts';

/** A layer as filling sees it. */
interface Fillable {
  /** As below, of the spans that come before all others. */
  firstWanted(most: number): Run | undefined;
  /** The first spans that are not there, at most `most`; undefined where all are. */
  firstMissing(most: number): Run | undefined;
}

export type FillStep =
  | { readonly type: 'fetch'; readonly layer: number; readonly run: Run }
  | { readonly type: 'wait'; readonly untilMs: number }
  | { readonly type: 'done' };

/** Filling begins so long after the last read that a program waited for. */
export const FILL_QUIET_MS = 2_000;
/** Spans of one step: what a program that begins to read may have to wait for. */
const FILL_SPANS = 2;

/**
 * What filling does next: nothing while programs wait for bytes; else what is missing of the spans that all layers want
 * first, then what is missing at all, layer by layer. `lastReadMs`: when a program last waited; `waiting`: how many do now.
 */
export function nextFill(
  layers: readonly Fillable[],
  reads: { readonly waiting: number; readonly lastReadMs: number },
  nowMs: number,
): FillStep {
  const wanted = layers.map((one) => one.firstWanted(FILL_SPANS));
  const isWanted = wanted.some((run) => run !== undefined);
  const found = isWanted ? wanted : layers.map((one) => one.firstMissing(FILL_SPANS));
  const layer = found.findIndex((run) => run !== undefined);
  if (layer < 0) return { type: 'done' };
  const quietAtMs = reads.lastReadMs + FILL_QUIET_MS;
  if (reads.waiting > 0) return { type: 'wait', untilMs: nowMs + FILL_QUIET_MS };
  if (nowMs < quietAtMs) return { type: 'wait', untilMs: quietAtMs };
  return { type: 'fetch', layer, run: found[layer]! };
}
