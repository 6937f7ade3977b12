import { type FileHandle, open } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { CodedError } from '@sepia/base/errors';

/** Where a file lies inside a tar, in bytes; or the name that it links to. */
export interface TarEntry {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly link: string | undefined;
}

const BLOCK = 512;
const MAX_ENTRIES = 1_000_000;
const MAX_META_BYTES = 1024 * 1024;

/**
 * Reads the headers of a tar (POSIX ustar and pax, GNU long names), not its contents.
 * @throws {CodedError} `REQUEST_INVALID` when it is compressed, cut or no tar
 */
export async function tarEntries(path: string): Promise<Map<string, TarEntry>> {
  const file = await open(path, 'r');
  try {
    return await readEntries(file, path);
  } finally {
    await file.close();
  }
}

async function readEntries(file: FileHandle, path: string): Promise<Map<string, TarEntry>> {
  const { size: fileBytes } = await file.stat();
  const magic = await readAt(file, 0, 2);
  if (magic[0] === 0x1f && magic[1] === 0x8b)
    throw broken(path, 'is compressed; unpack it first: gunzip FILE');
  if (fileBytes < BLOCK) throw broken(path, 'is no tar');
  const entries = new Map<string, TarEntry>();
  let longName: string | undefined;
  let longLink: string | undefined;
  let longSize: number | undefined;
  for (let at = 0; at + BLOCK <= fileBytes && entries.size < MAX_ENTRIES; ) {
    const header = await readAt(file, at, BLOCK);
    if (header.every((byte) => byte === 0)) break;
    checkHeader(header, path);
    const type = String.fromCharCode(header[156]!);
    const isMeta = type === 'L' || type === 'K' || type === 'x' || type === 'g';
    const sizeBytes = (isMeta ? undefined : longSize) ?? numberField(header, 124, 12);
    // A size of less than nothing would lead back to this header, again and again.
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw broken(path, 'is no tar');
    const offset = at + BLOCK;
    at = offset + Math.ceil(sizeBytes / BLOCK) * BLOCK;
    if (offset + sizeBytes > fileBytes) throw broken(path, 'is cut short');
    if (isMeta) {
      if (sizeBytes > MAX_META_BYTES) throw broken(path, 'has an oversized header');
      const text = (await readAt(file, offset, sizeBytes)).toString('utf8');
      if (type === 'L') longName = cutAtNul(text);
      if (type === 'K') longLink = cutAtNul(text);
      if (type === 'x') {
        const { path: name = longName, linkpath = longLink, size } = paxRecords(text);
        longName = name;
        longLink = linkpath;
        if (size !== undefined) longSize = sizeOf(size, path);
      }
      continue;
    }
    const name = normalize(longName ?? headerName(header));
    const linkName = longLink ?? cutAtNul(header.toString('utf8', 157, 257));
    if (type === '0' || type === '\0') entries.set(name, { offset, sizeBytes, link: undefined });
    if (type === '1') entries.set(name, { offset, sizeBytes: 0, link: normalize(linkName) });
    if (type === '2')
      entries.set(name, { offset, sizeBytes: 0, link: normalize(join(dirname(name), linkName)) });
    longName = undefined;
    longLink = undefined;
    longSize = undefined;
  }
  return entries;
}

function checkHeader(header: Buffer, path: string): void {
  const told = numberField(header, 148, 8);
  let sum = 0;
  for (let index = 0; index < BLOCK; index += 1) sum += index >= 148 && index < 156 ? 0x20 : header[index]!;
  if (sum !== told) throw broken(path, 'is no tar');
}

/** Octal text, or big-endian binary when the first bit is set (GNU, for sizes over 8 GiB). */
function numberField(header: Buffer, at: number, length: number): number {
  if ((header[at]! & 0x80) !== 0) return Number(header.readBigUInt64BE(at + length - 8));
  const text = cutAtNul(header.toString('latin1', at, at + length)).trim();
  return text === '' ? 0 : Number.parseInt(text, 8);
}

function headerName(header: Buffer): string {
  const name = cutAtNul(header.toString('utf8', 0, 100));
  const isUstar = header.toString('latin1', 257, 262) === 'ustar' && header[263] === 0x30;
  const prefix = isUstar ? cutAtNul(header.toString('utf8', 345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** Records `LENGTH KEY=VALUE\n`. */
function paxRecords(text: string): { path?: string; linkpath?: string; size?: string } {
  const found: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const record = /^\d+ (path|linkpath|size)=(.*)$/s.exec(line);
    if (record !== null) found[record[1]!] = record[2]!;
  }
  return found;
}

/** A pax size: files of 8 GiB and more have it, and their header may say anything. */
function sizeOf(text: string, path: string): number {
  const sizeBytes = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(sizeBytes)) throw broken(path, 'has a file of no size');
  return sizeBytes;
}

async function readAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await file.read(buffer, 0, length, at);
  return buffer.subarray(0, bytesRead);
}

function cutAtNul(text: string): string {
  const end = text.indexOf('\0');
  return end === -1 ? text : text.slice(0, end);
}

function broken(path: string, why: string): CodedError {
  return new CodedError('REQUEST_INVALID', {
    message: `${path} ${why}; expected an OCI layout folder, or a tar of "docker save" or of an OCI layout`,
  });
}
