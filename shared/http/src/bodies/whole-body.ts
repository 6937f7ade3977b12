/**
 * All bytes of a body, at most `limitBytes`. Nothing more is read of one that has more, and its stream is destroyed.
 * `onSize` hears how many are held, before each chunk is kept; what it throws ends the reading, too.
 * @throws what `tooLarge` makes; what ends the body early
 */
export async function wholeBody(
  body: AsyncIterable<Uint8Array>,
  limitBytes: number,
  tooLarge: () => Error,
  onSize: (sizeBytes: number) => void = () => {},
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) throw tooLarge();
    onSize(sizeBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}
