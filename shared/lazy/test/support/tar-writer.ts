import { type ByteString, bytesOf } from '../../src/tar/byte-string.ts';

/** An entry to write; what is left out is empty or zero. */
export interface TarPart {
  readonly typeFlag?: string;
  readonly name: string;
  readonly linkName?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly userName?: string;
  readonly groupName?: string;
  readonly mtimeSec?: number;
  readonly mtimeNsec?: number;
  readonly devMajor?: number;
  readonly devMinor?: number;
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
  readonly payload?: Uint8Array;
  /** Records written as they are; they win. */
  readonly pax?: ReadonlyMap<string, string>;
}

export type TarForm = 'pax' | 'gnu';

const END = Buffer.alloc(1024);

/** A tar archive of these entries. Strings are byte strings. `gnu`: long names as `L`/`K`, numbers as base-256. */
export function writeTar(parts: readonly TarPart[], form: TarForm = 'pax', end: Uint8Array = END): Buffer {
  return Buffer.concat([...parts.map((part) => writePart(part, form)), end]);
}

/**
 * A tar of one sparse file in GNU's old form (type `S`): one pair of offset and length in the header, the rest in a block
 * behind it; `sizeBytes`: its length with its holes.
 */
export function writeOldSparse(part: TarPart, numbers: readonly number[], sizeBytes: number): Buffer {
  const tar = writeTar([part], 'gnu');
  const header = Buffer.from(tar.subarray(0, 512));
  const octal = (value: number): string =>
    value < 8 ** 11 ? `${value.toString(8).padStart(11, '0')}\0` : '';
  header.write('S', 156);
  header.write(octal(numbers[0]!) + octal(numbers[1]!), 386);
  header[482] = numbers.length > 2 ? 1 : 0;
  if (sizeBytes < 8 ** 11) header.write(octal(sizeBytes), 483);
  else {
    header[483] = 0x80;
    header.writeBigUInt64BE(BigInt(sizeBytes), 487);
  }
  fixSum(header);
  const more = Buffer.alloc(numbers.length > 2 ? 512 : 0);
  for (const [index, value] of numbers.slice(2).entries()) more.write(octal(value), index * 12);
  return Buffer.concat([header, more, tar.subarray(512)]);
}

/** A header of its own: `g` (global) or any other type. */
export function writePart(part: TarPart, form: TarForm = 'pax'): Buffer {
  const records = new Map<string, Buffer>();
  const extra: Buffer[] = [];
  const long = (key: string, value: string, flag: string): void => {
    if (value.length <= 100) return;
    if (form === 'pax') records.set(key, bytes(value));
    else extra.push(simple({ name: '././@LongLink', typeFlag: flag, payload: bytes(`${value}\0`) }));
  };
  long('path', part.name, 'L');
  long('linkpath', part.linkName ?? '', 'K');
  if (form === 'pax') {
    for (const key of ['uid', 'gid'] as const) {
      const value = part[key] ?? 0;
      if (value > 0o7777777 || value < 0) records.set(key, bytes(String(value)));
    }
    const sec = part.mtimeSec ?? 0;
    const nsec = part.mtimeNsec ?? 0;
    if (sec < 0 || sec > 0o77777777777 || nsec > 0) records.set('mtime', bytes(timeText(sec, nsec)));
  }
  for (const [key, value] of part.xattrs ?? []) records.set(`SCHILY.xattr.${key}`, Buffer.from(value));
  for (const [key, value] of part.pax ?? []) records.set(key, bytes(value));
  if (records.size > 0)
    extra.push(simple({ name: 'PaxHeaders/x', typeFlag: 'x', payload: paxBytes(records) }));
  return Buffer.concat([...extra, simple(part, form)]);
}

/** A global extended header. */
export function writeGlobal(records: ReadonlyMap<string, string>): Buffer {
  const values = new Map([...records].map(([key, value]) => [key, bytes(value)]));
  return simple({ name: 'pax_global_header', typeFlag: 'g', payload: paxBytes(values) });
}

/** `<length> key=value\n` with a length that counts itself. */
export function paxBytes(records: ReadonlyMap<string, Buffer>): Buffer {
  const lines = [...records].map(([key, value]) => {
    const rest = Buffer.concat([bytes(` ${key}=`), value, bytes('\n')]);
    let length = rest.length + 1;
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
    return Buffer.concat([bytes(String(length)), rest]);
  });
  return Buffer.concat(lines);
}

/** Replaces the checksum of a header block by the right one. */
export function fixSum(block: Buffer): Buffer {
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (let at = 0; at < 512; at++) sum += block[at] ?? 0;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function simple(part: TarPart, form: TarForm = 'pax'): Buffer {
  const payload = part.payload ?? Buffer.alloc(0);
  const block = Buffer.alloc(512);
  block.write(part.name.slice(0, 100), 0, 'latin1');
  number(block, 100, 8, part.mode ?? 0, form);
  number(block, 108, 8, part.uid ?? 0, form);
  number(block, 116, 8, part.gid ?? 0, form);
  number(block, 124, 12, payload.length, form);
  number(block, 136, 12, part.mtimeSec ?? 0, form);
  block.write(part.typeFlag ?? '0', 156, 'latin1');
  block.write((part.linkName ?? '').slice(0, 100), 157, 'latin1');
  block.write(form === 'gnu' ? 'ustar  \0' : 'ustar\x0000', 257, 'latin1');
  block.write(part.userName ?? '', 265, 32, 'latin1');
  block.write(part.groupName ?? '', 297, 32, 'latin1');
  number(block, 329, 8, part.devMajor ?? 0, form);
  number(block, 337, 8, part.devMinor ?? 0, form);
  const padding = Buffer.alloc((512 - (payload.length % 512)) % 512);
  return Buffer.concat([fixSum(block), payload, padding]);
}

function number(block: Buffer, start: number, length: number, value: number, form: TarForm): void {
  if (value >= 0 && value < 8 ** (length - 1)) {
    block.write(value.toString(8).padStart(length - 1, '0'), start, 'latin1');
  } else if (form === 'gnu') {
    let rest = BigInt(value) & ((1n << BigInt(8 * length)) - 1n);
    for (let index = length - 1; index >= 0; index--) {
      block[start + index] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    block[start] = value < 0 ? 0xff : 0x80 | block[start]!;
  }
}

function timeText(sec: number, nsec: number): string {
  if (sec >= 0) return `${sec}.${String(nsec).padStart(9, '0')}`;
  const total = BigInt(sec) * 1_000_000_000n + BigInt(nsec);
  const positive = -total;
  return `-${positive / 1_000_000_000n}.${String(positive % 1_000_000_000n).padStart(9, '0')}`;
}

function bytes(text: string): Buffer {
  return bytesOf(text as ByteString);
}
