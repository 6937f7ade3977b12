const [COLON, DICTIONARY, END, INTEGER, LIST, MINUS, ZERO, NINE] = Buffer.from(':deil-09');
/** A handshake has a dictionary in a dictionary; what reads it recurses. */
const MAX_DEPTH = 16;
/** Digits of a number: all that a number of ours can have. */
const MAX_DIGITS = 16;

/**
 * True for bytes that begin with one whole bencoded value (BEP 3). Asked before the library reads them: it takes lengths below
 * zero, which lead it back over what it has read, for ever. At most one look at each byte.
 */
export function isBencoded(bytes: Uint8Array): boolean {
  /** Lists and dictionaries around, with how many values and keys of them were read. */
  const around: { readonly isDictionary: boolean; count: number }[] = [];
  for (let at = 0; ; ) {
    const inside = around.at(-1);
    const isKey = inside?.isDictionary === true && inside.count % 2 === 0;
    const byte = bytes[at];
    if (!isKey && (byte === LIST || byte === DICTIONARY)) {
      if (around.length === MAX_DEPTH) return false;
      around.push({ isDictionary: byte === DICTIONARY, count: 0 });
      at += 1;
      continue;
    }
    if (inside !== undefined && byte === END) {
      if (inside.isDictionary && !isKey) return false;
      around.pop();
      at += 1;
    } else {
      const next = !isKey && byte === INTEGER ? integerEnd(bytes, at + 1) : stringEnd(bytes, at);
      if (next === undefined) return false;
      at = next;
    }
    const outer = around.at(-1);
    if (outer === undefined) return true;
    outer.count += 1;
  }
}

/** Where the integer ends whose digits begin at `from`. */
function integerEnd(bytes: Uint8Array, from: number): number | undefined {
  const first = bytes[from] === MINUS ? from + 1 : from;
  const end = digitsEnd(bytes, first);
  return end > first && bytes[end] === END ? end + 1 : undefined;
}

/** Where the byte string at `from` ends; undefined if it is none, or longer than what is there. */
function stringEnd(bytes: Uint8Array, from: number): number | undefined {
  const digits = digitsEnd(bytes, from);
  if (digits === from || bytes[digits] !== COLON) return undefined;
  let length = 0;
  for (let at = from; at < digits; at++) length = length * 10 + (bytes[at]! - ZERO!);
  const end = digits + 1 + length;
  return end <= bytes.length ? end : undefined;
}

function digitsEnd(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at - from < MAX_DIGITS && bytes[at]! >= ZERO! && bytes[at]! <= NINE!) at += 1;
  return at;
}
