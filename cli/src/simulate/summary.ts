import type { Result } from '@sepia/sim';
import { bytesText, durationText } from '../terminal/format.ts';
import { finishTimes, percentile } from './rows.ts';

/** What a run came to; times in ms. */
export interface Summary {
  readonly nodes: number;
  readonly finished: number;
  readonly blobBytes: number;
  readonly limitMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly lastMs: number;
  /** Last node's time over the limit of its link. */
  readonly overLimit: number;
  readonly originCopies: number;
  readonly duplicatePieces: number;
  readonly badPieces: number;
  readonly traceHash: string;
  readonly wallMs: number;
}

export function summarise(
  result: Result,
  facts: { nodes: number; blobBytes: number; limitMs: number; wallMs: number },
): Summary {
  const times = finishTimes(result.finishedMs);
  return {
    ...facts,
    finished: times.length,
    p50Ms: percentile(times, 0.5),
    p99Ms: percentile(times, 0.99),
    lastMs: result.lastMs,
    overLimit: result.lastMs / facts.limitMs,
    originCopies: result.originCopies,
    duplicatePieces: result.duplicates,
    badPieces: result.badPieces,
    traceHash: result.traceHash,
  };
}

export function summaryText(meaning: string, one: Summary): string {
  return [
    meaning,
    `  ${one.finished} of ${one.nodes} nodes have ${bytesText(one.blobBytes)}: p50 ${durationText(one.p50Ms)}, p99 ${durationText(one.p99Ms)}, last ${durationText(one.lastMs)}`,
    `  limit of the link ${durationText(one.limitMs)}, last ÷ limit ${one.overLimit.toFixed(2)}`,
    `  the origins sent ${one.originCopies.toFixed(2)} copies; ${one.duplicatePieces} pieces came twice, ${one.badPieces} were bad`,
    `  trace ${one.traceHash} (same seed, same trace), simulated in ${durationText(one.wallMs)}`,
  ].join('\n');
}

const WIDTH = 640;
const HEIGHT = 320;
const MARGIN = 48;

/** How many nodes had finished by when, as SVG; the dashed line is the limit of the link, the grey curve Kraken's policy. */
export function finishSvg(
  result: Pick<Result, 'finishedMs'>,
  summary: Summary,
  kraken: Pick<Result, 'finishedMs'> | undefined,
): string {
  const beside = finishTimes(kraken?.finishedMs ?? new Map());
  const endMs = Math.max(summary.lastMs, summary.limitMs, beside.at(-1) ?? 0) * 1.05;
  const x = (ms: number): string => (MARGIN + (ms / endMs) * (WIDTH - 2 * MARGIN)).toFixed(1);
  const y = (count: number): string =>
    (HEIGHT - MARGIN - (count / summary.nodes) * (HEIGHT - 2 * MARGIN)).toFixed(1);
  const curve = (times: readonly number[], colour: string): string => {
    const steps = times.map((ms, index) => `L${x(ms)} ${y(index)} L${x(ms)} ${y(index + 1)}`).join(' ');
    return `<path d="M${x(0)} ${y(0)} ${steps}" fill="none" stroke="${colour}" stroke-width="2"/>`;
  };
  const label = (px: string, py: number, text: string): string =>
    `<text x="${px}" y="${py}" font-size="12" font-family="sans-serif" text-anchor="middle">${text}</text>`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<path d="M${x(0)} ${y(summary.nodes)} L${x(0)} ${y(0)} L${x(endMs)} ${y(0)}" fill="none" stroke="#888"/>`,
    `<path d="M${x(summary.limitMs)} ${y(0)} L${x(summary.limitMs)} ${y(summary.nodes)}" stroke="#888" stroke-dasharray="4 4"/>`,
    ...(beside.length === 0 ? [] : [curve(beside, '#999')]),
    curve(finishTimes(result.finishedMs), '#704214'),
    label(x(summary.limitMs), MARGIN - 8, `limit ${durationText(summary.limitMs)}`),
    label(x(summary.lastMs), HEIGHT - MARGIN + 18, `last ${durationText(summary.lastMs)}`),
    label(
      String(WIDTH / 2),
      HEIGHT - 10,
      `${summary.nodes} nodes, ${bytesText(summary.blobBytes)}: nodes that have all, over time`,
    ),
    '</svg>',
    '',
  ].join('\n');
}
