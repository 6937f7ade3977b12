import { endOfEntry, type TarEntry } from '../tar/tar-entry.ts';

/** Bytes of the output: a range of the source tar, given bytes, or zeros. */
export type Part =
  | { readonly from: number; readonly length: number }
  | { readonly bytes: Uint8Array }
  | { readonly zeros: number };

/** Length of a part, in bytes. */
export function lengthOf(part: Part): number {
  if ('from' in part) return part.length;
  return 'bytes' in part ? part.bytes.length : part.zeros;
}

/** The content of an entry as it lies in the source, as one part; none for an empty file. */
export function wholeFile(entry: Pick<TarEntry, 'payloadOffset' | 'size'>): Part[] {
  return entry.size === 0 ? [] : [{ from: entry.payloadOffset, length: entry.size }];
}

/** The header blocks of an entry in the source. */
export function rawHeader(entry: TarEntry): Part {
  return { from: entry.headerOffset, length: entry.payloadOffset - entry.headerOffset };
}

/** What fills up the last block of an entry in the source, as far as the tar (`tarBytes` long) has it; else zeros. */
export function rawPadding(entry: TarEntry, tarBytes: number): Part[] {
  const from = entry.payloadOffset + entry.size;
  const end = endOfEntry(entry);
  if (from === end) return [];
  return end <= tarBytes ? [{ from, length: end - from }] : [{ zeros: end - from }];
}

/** Appends a part, joined with the one before where both are one range of the source. */
export function append(parts: Part[], part: Part): void {
  if (lengthOf(part) === 0) return;
  const last = parts.at(-1);
  if (last !== undefined && 'from' in last && 'from' in part && last.from + last.length === part.from)
    parts[parts.length - 1] = { from: last.from, length: last.length + part.length };
  else parts.push(part);
}

/** The bytes `[start, start + length)` of what these parts make together. */
export function slice(parts: readonly Part[], start: number, length: number): Part[] {
  const out: Part[] = [];
  let at = 0;
  for (const part of parts) {
    const size = lengthOf(part);
    const from = Math.max(start, at) - at;
    const until = Math.min(start + length, at + size) - at;
    if (until > from) out.push(cut(part, from, until));
    at += size;
    if (at >= start + length) break;
  }
  return out;
}

function cut(part: Part, from: number, until: number): Part {
  if ('from' in part) return { from: part.from + from, length: until - from };
  return 'bytes' in part ? { bytes: part.bytes.subarray(from, until) } : { zeros: until - from };
}
