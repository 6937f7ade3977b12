/** What bencode holds: whole numbers, byte strings, lists, dictionaries by the latin1 form of their keys. */
export type Bencoded = number | Buffer | Bencoded[] | { [key: string]: Bencoded };

/** Reads bencode, all of it, and says where each dictionary value lies. Written apart from the library that Sepia uses. */
export function bdecode(bytes: Buffer): { value: Bencoded; spans: Map<string, readonly [number, number]> } {
  const spans = new Map<string, readonly [number, number]>();
  let at = 0;
  const read = (path: string): Bencoded => {
    const mark = String.fromCharCode(bytes[at]!);
    if (mark === 'i') {
      const end = bytes.indexOf('e', at);
      const value = Number(bytes.toString('latin1', at + 1, end));
      at = end + 1;
      return value;
    }
    if (mark === 'l' || mark === 'd') {
      at += 1;
      const list: Bencoded[] = [];
      const dictionary: { [key: string]: Bencoded } = {};
      while (bytes[at] !== 0x65) {
        if (mark === 'l') {
          list.push(read(`${path}/`));
          continue;
        }
        const key = (read('') as Buffer).toString('latin1');
        const start = at;
        dictionary[key] = read(`${path}/${key}`);
        spans.set(`${path}/${key}`, [start, at]);
      }
      at += 1;
      return mark === 'l' ? list : dictionary;
    }
    const colon = bytes.indexOf(':', at);
    const length = Number(bytes.toString('latin1', at, colon));
    at = colon + 1 + length;
    return bytes.subarray(colon + 1, at);
  };
  const value = read('');
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes behind the end`);
  return { value, spans };
}
