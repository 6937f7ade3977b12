import { styleText } from 'node:util';
import Table from 'cli-table3';
import { bytesText, durationText } from '../terminal/format.ts';
import { peerShare } from './agent-bytes.ts';
import type { PullResult } from './pull-race.ts';

/** The demo is passed when every digest was right and at least half of the bytes came from peers. */
const MIN_PEER_SHARE = 0.5;

/** One row per agent: time, first byte, where the bytes came from, digest. */
export function resultTable(results: readonly PullResult[], out: NodeJS.WriteStream): string {
  const table = new Table({
    // As wide as a terminal of 80 columns.
    head: ['agent', 'time', 'first byte', 'from peers', 'origins', 'upstream', 'digests'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'left'],
    style: { head: [], border: [], compact: true },
  });
  for (const one of results) {
    const verdict =
      one.failure === undefined
        ? styleText('green', '✓ right', { stream: out })
        : styleText('red', '✗ failed', { stream: out });
    const { peer, origin, upstream } = one.bytes;
    table.push([
      one.agent,
      durationText(one.totalMs),
      durationText(one.firstByteMs),
      bytesText(peer),
      bytesText(origin),
      bytesText(upstream),
      verdict,
    ]);
  }
  const failures = results
    .filter((one) => one.failure !== undefined)
    .map((one) => `${one.agent}: ${one.failure}`);
  return [table.toString(), ...failures].join('\n');
}

/** What the table means, in a sentence or two, and whether the demo is passed. */
export function verdict(
  results: readonly PullResult[],
  imageBytes: number,
): { passed: boolean; text: string } {
  const share = peerShare(results.map((one) => one.bytes));
  const fromOrigins = results.reduce((sum, one) => sum + one.bytes.origin, 0);
  const failed = results.filter((one) => one.failure !== undefined).length;
  const copies = imageBytes === 0 ? 0 : fromOrigins / imageBytes;
  const percent = `${Math.round(share * 100)} %`;
  if (failed > 0) return { passed: false, text: `${failed} of ${results.length} pulls failed.` };
  const text = `${results.length} nodes got ${bytesText(imageBytes)} each; ${percent} of the bytes came from each other, the origins sent ${copies.toFixed(1)} copies.`;
  if (share < MIN_PEER_SHARE)
    return { passed: false, text: `${text} That is less than half: the swarm did not do its work.` };
  return { passed: true, text };
}
