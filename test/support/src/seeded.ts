/**
 * The seed of a test whose chance it names: the variable `SEED`, 1 where it is not set, so that a run that fails can be
 * repeated and a commit is judged by the same draws everywhere. Others: `SEED=$RANDOM npm run test:processes`.
 */
export const SEED = Number(process.env['SEED'] ?? 1);

/** Small seeded generator (mulberry32): 0 ≤ x < 1. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `length` bytes that differ by seed. */
export function bytesOf(length: number, seed: number): Uint8Array {
  const chance = seeded(seed);
  const bytes = new Uint8Array(length);
  const words = new Uint32Array(bytes.buffer, 0, Math.floor(length / 4));
  for (let index = 0; index < words.length; index++) words[index] = chance() * 2 ** 32;
  for (let index = words.length * 4; index < length; index++) bytes[index] = chance() * 256;
  return bytes;
}
