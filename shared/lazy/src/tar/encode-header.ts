import { type ByteString, byteString, bytesOf } from './byte-string.ts';
import { BLOCK } from './header.ts';
import type { TarEntry } from './tar-entry.ts';

/** What a header says; the rest of a {@link TarEntry} is about where it was read. */
export type HeaderFields = Pick<
  TarEntry,
  | 'typeFlag'
  | 'name'
  | 'linkName'
  | 'mode'
  | 'uid'
  | 'gid'
  | 'userName'
  | 'groupName'
  | 'mtimeSec'
  | 'mtimeNsec'
  | 'devMajor'
  | 'devMinor'
  | 'xattrs'
  | 'size'
>;

/** Everything empty or zero: the start of a header that is made, not read. */
export const EMPTY_HEADER: HeaderFields = {
  typeFlag: '0',
  name: '' as ByteString,
  linkName: '' as ByteString,
  mode: 0,
  uid: 0,
  gid: 0,
  userName: '' as ByteString,
  groupName: '' as ByteString,
  mtimeSec: 0,
  mtimeNsec: 0,
  devMajor: 0,
  devMinor: 0,
  xattrs: new Map(),
  size: 0,
};

const NAME_BYTES = 100;
const OWNER_BYTES = 32;

/**
 * The header blocks of an entry: a ustar header, behind an extended header (POSIX.1-2017, "pax Extended Header") for
 * what ustar cannot hold. The same fields give the same bytes.
 */
export function encodeHeader(fields: HeaderFields): Uint8Array {
  const records = recordsOf(fields);
  const block = headerBlock(fields);
  if (records.length === 0) return block;
  const extended = headerBlock({
    ...EMPTY_HEADER,
    typeFlag: 'x',
    name: 'PaxHeaders/entry' as ByteString,
    size: records.length,
  });
  return Buffer.concat([extended, records, zerosAfter(records.length), block]);
}

/** The zero bytes that fill up the last block of a payload of this length. */
export function zerosAfter(sizeBytes: number): Uint8Array {
  return new Uint8Array((BLOCK - (sizeBytes % BLOCK)) % BLOCK);
}

function recordsOf(fields: HeaderFields): Buffer {
  const records: Buffer[] = [];
  const add = (key: string, value: Uint8Array | string): void => {
    records.push(record(key, typeof value === 'string' ? Buffer.from(value, 'latin1') : value));
  };
  if (fields.name.length > NAME_BYTES) add('path', fields.name);
  if (fields.linkName.length > NAME_BYTES) add('linkpath', fields.linkName);
  if (!fits(fields.uid, 8)) add('uid', String(fields.uid));
  if (!fits(fields.gid, 8)) add('gid', String(fields.gid));
  if (!fits(fields.size, 12)) add('size', String(fields.size));
  if (fields.userName.length > OWNER_BYTES) add('uname', fields.userName);
  if (fields.groupName.length > OWNER_BYTES) add('gname', fields.groupName);
  if (!fits(fields.mtimeSec, 12) || fields.mtimeNsec !== 0) add('mtime', timeText(fields));
  for (const [key, value] of fields.xattrs) add(`SCHILY.xattr.${key}`, value);
  return Buffer.concat(records);
}

/** `<length> <key>=<value>\n`, with a length that counts its own digits. */
function record(key: string, value: Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), value, Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function headerBlock(fields: HeaderFields): Buffer {
  const block = Buffer.alloc(BLOCK);
  const text = (at: number, length: number, value: ByteString): void =>
    void bytesOf(value).copy(block, at, 0, length);
  const number = (at: number, length: number, value: number): void => {
    const digits = fits(value, length) ? value.toString(8).padStart(length - 1, '0') : '0'.repeat(length - 1);
    block.write(digits, at, 'latin1');
  };
  text(0, NAME_BYTES, fields.name);
  number(100, 8, fields.mode);
  number(108, 8, fields.uid);
  number(116, 8, fields.gid);
  number(124, 12, fields.size);
  number(136, 12, fields.mtimeSec);
  block.write(fields.typeFlag, 156, 'latin1');
  text(157, NAME_BYTES, fields.linkName);
  block.write('ustar\x0000', 257, 'latin1');
  text(265, OWNER_BYTES, fields.userName);
  text(297, OWNER_BYTES, fields.groupName);
  number(329, 8, fields.devMajor);
  number(337, 8, fields.devMinor);
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function fits(value: number, fieldBytes: number): boolean {
  return value >= 0 && value < 8 ** (fieldBytes - 1);
}

/** Seconds with the shortest fraction that keeps the nanoseconds. */
function timeText({ mtimeSec, mtimeNsec }: HeaderFields): string {
  const total = BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec);
  const positive = total < 0n ? -total : total;
  const fraction = String(positive % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  const whole = `${total < 0n ? '-' : ''}${positive / 1_000_000_000n}`;
  return byteString(Buffer.from(fraction === '' ? whole : `${whole}.${fraction}`));
}
