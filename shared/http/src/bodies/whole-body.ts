import { demandPace } from './core/body-floor.ts';

/**
 * All bytes of a body, at most `limitBytes`. Nothing more is read of one that has more, or drips, and its stream is destroyed.
 * `onSize` hears how many are held, before each chunk is kept; what it throws ends the reading, too.
 * @throws what `tooLarge` makes; what ends the body early; {CodedError} `TIMEOUT` of one that drips
 */
export async function wholeBody(
  body: AsyncIterable<Uint8Array>,
  limitBytes: number,
  tooLarge: () => Error,
  onSize: (sizeBytes: number) => void = () => {},
  nowMs: () => number = () => performance.now(),
): Promise<Buffer> {
  const startMs = nowMs();
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) throw tooLarge();
    demandPace(sizeBytes, nowMs() - startMs);
    onSize(sizeBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}
