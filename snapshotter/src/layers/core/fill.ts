import { FILL_LOOK_MS, FILL_QUIET_MS } from '../../deadlines.ts';
import type { Run } from './runs.ts';

/** A layer as filling sees it. */
interface Fillable {
  /** The first spans that are not there, at most `most`; undefined where all are. */
  firstMissing(most: number): Run | undefined;
  /** Nothing came of it last: until then it rests. */
  readonly restsUntilMs?: number | undefined;
}

/** What programs do now. */
export interface Reads {
  /** How many wait for bytes. */
  readonly waiting: number;
  /** When one waited last. */
  readonly lastReadMs: number;
}

/** `wait`: look again at `untilMs`. `done`: nothing is missing of any layer. */
export type FillStep =
  | { readonly type: 'fetch'; readonly layer: number; readonly run: Run }
  | { readonly type: 'wait'; readonly untilMs: number }
  | { readonly type: 'done' };

/** Spans of one step: what a program that begins to read may have to wait for. */
export const FILL_SPANS = 2;
/** Runs of what a start reads first that are under way at once. */
export const FIRST_LANES = 2;

/** Images that are smaller are filled, where nobody says otherwise: bytes of their layers as they are pulled. */
const FILLED_IMAGE_BYTES = 2 ** 30;

/** `start`: only what a start reads is fetched before somebody asks; `by-size`: that of large images, all of others. */
export type FillPolicy = 'none' | 'start' | 'all' | 'by-size';

/** Whether all of a layer is fetched although nobody reads it. `imageBytes`: size of the smallest image that has it. */
export function fillsRest(policy: FillPolicy, imageBytes: number): boolean {
  return policy === 'all' || (policy === 'by-size' && imageBytes < FILLED_IMAGE_BYTES);
}

/**
 * What filling does next: nothing while programs wait for bytes; else what is missing, layer by layer. Those of which nothing
 * came last have their turn behind all others.
 */
export function nextFill(layers: readonly Fillable[], reads: Reads, nowMs: number): FillStep {
  const missing = layers.flatMap(({ firstMissing, restsUntilMs }, layer) => {
    const run = firstMissing(FILL_SPANS);
    return run === undefined ? [] : [{ layer, run, restsUntilMs: restsUntilMs ?? Number.NEGATIVE_INFINITY }];
  });
  const [first, ...others] = missing;
  if (first === undefined) return { type: 'done' };
  const quietAtMs = reads.lastReadMs + FILL_QUIET_MS;
  if (reads.waiting > 0) return { type: 'wait', untilMs: nowMs + FILL_QUIET_MS };
  if (nowMs < quietAtMs) return { type: 'wait', untilMs: quietAtMs };
  const { layer, run, restsUntilMs } = others.reduce(
    (best, one) => (one.restsUntilMs < best.restsUntilMs ? one : best),
    first,
  );
  // Another layer may come meanwhile.
  if (nowMs < restsUntilMs) return { type: 'wait', untilMs: Math.min(restsUntilMs, nowMs + FILL_LOOK_MS) };
  return { type: 'fetch', layer, run };
}

/**
 * Whether a lane may take the next run of what a start reads first. A start is a chain of reads, each of which waits for
 * a round trip: beside a program that waits, one run keeps the link at work; the other lanes stand still.
 */
export function mayFetchFirst(lane: number, reads: Reads): boolean {
  return lane === 0 || reads.waiting === 0;
}
