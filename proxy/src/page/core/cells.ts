/** Columns of the page's grid: a bigger blob shows several pieces per column. */
export const MAX_COLUMNS = 256;
const FULL = 15;

/**
 * How full each of at most `columns` equal parts of a bitfield is, one hex digit each: `f` only if every piece of the
 * part is there, `0` only if none is. `bitfieldHex`: first piece in the highest bit; what lacks counts as 0.
 */
export function fullnessCells(bitfieldHex: string, pieces: number, columns = MAX_COLUMNS): string {
  const shown = Math.min(columns, pieces);
  let cells = '';
  for (let column = 0; column < shown; column++) {
    const from = Math.floor((column * pieces) / shown);
    const to = Math.floor(((column + 1) * pieces) / shown);
    let have = 0;
    for (let piece = from; piece < to; piece++) have += bitAt(bitfieldHex, piece);
    cells += cell(have, to - from).toString(16);
  }
  return cells;
}

/** Pieces that a bitfield has. */
export function countPieces(bitfieldHex: string, pieces: number): number {
  let count = 0;
  for (let piece = 0; piece < pieces; piece++) count += bitAt(bitfieldHex, piece);
  return count;
}

function cell(have: number, size: number): number {
  if (have === 0) return 0;
  return have === size ? FULL : Math.max(1, Math.min(FULL - 1, Math.floor((have / size) * FULL)));
}

function bitAt(hex: string, piece: number): number {
  const digit = Number.parseInt(hex[piece >> 2] ?? '0', 16);
  return Number.isNaN(digit) ? 0 : (digit >> (3 - (piece & 3))) & 1;
}
