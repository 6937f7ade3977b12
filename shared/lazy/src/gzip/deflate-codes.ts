import { HuffmanTable } from './huffman.ts';

/** RFC 1951, 3.2.5: base and extra bits of length symbols 257…285 and of distance symbols 0…29. */
export const LENGTH_BASE = Uint16Array.of(
  ...[3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31],
  ...[35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258],
);
export const LENGTH_EXTRA = Uint8Array.of(
  ...[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
  ...[3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0],
);
export const DISTANCE_BASE = Uint16Array.of(
  ...[1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769],
  ...[1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577],
);
export const DISTANCE_EXTRA = Uint8Array.of(
  ...[0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8],
  ...[9, 9, 10, 10, 11, 11, 12, 12, 13, 13],
);
/** RFC 1951, 3.2.7: the order in which the lengths of the code length code are sent. */
export const CODE_LENGTH_ORDER = Uint8Array.of(
  ...[16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15],
);
export const LITERAL_SYMBOLS = 288;
export const DISTANCE_SYMBOLS = 32;

/** The tables of a block with fixed codes (RFC 1951, 3.2.6). */
export function fixedTables(): { literals: HuffmanTable; distances: HuffmanTable } {
  const lengths = new Uint8Array(LITERAL_SYMBOLS)
    .fill(8, 0, 144)
    .fill(9, 144, 256)
    .fill(7, 256, 280)
    .fill(8, 280);
  const literals = new HuffmanTable(LITERAL_SYMBOLS);
  literals.build(lengths, 0, LITERAL_SYMBOLS, false);
  const distances = new HuffmanTable(DISTANCE_SYMBOLS);
  distances.build(new Uint8Array(DISTANCE_SYMBOLS).fill(5), 0, DISTANCE_SYMBOLS, false);
  return { literals, distances };
}
