import { CodedError } from '@sepia/base/errors';
import { type ByteString, byteString } from './byte-string.ts';
import { BLOCK, numberOf } from './header.ts';
import type { TarEntry } from './tar-entry.ts';

/** A run of a sparse file's content: where it stands in the file, and where in the archive. */
export interface SparseRun {
  readonly fileOffset: number;
  readonly archiveOffset: number;
  readonly length: number;
}

/** What a GNU sparse entry means: a file of `sizeBytes` with these runs, zeros elsewhere. Runs are in order, apart. */
export interface SparseMap {
  readonly name: ByteString;
  readonly sizeBytes: number;
  readonly runs: readonly SparseRun[];
}

/** Most runs of one file. */
const MAX_RUNS = 1_000_000;
const NEWLINE = 0x0a;

type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

/**
 * Reads the map of a sparse entry: GNU's old form (type `S`) and its PAX forms 0.0, 0.1 and 1.0 (GNU tar manual,
 * "Sparse Formats"). `read` gives bytes of the archive.
 * @throws {CodedError} `LAYER_INVALID`
 */
export async function readSparse(entry: TarEntry, read: ReadAt): Promise<SparseMap> {
  const blocks = await read(entry.headerOffset, entry.payloadOffset - entry.headerOffset);
  if (entry.typeFlag === 'S') return oldForm(entry, blocks);
  const records = paxRecords(blocks);
  const value = (key: string): string | undefined => records.findLast(([name]) => name === key)?.[1];
  const name = (value('GNU.sparse.name') ?? entry.name) as ByteString;
  const sizeBytes = numberText(value('GNU.sparse.realsize') ?? value('GNU.sparse.size'), entry);
  if (value('GNU.sparse.major') === '1') {
    const { numbers, end } = await mapInPayload(entry, read);
    return { name, sizeBytes, runs: runsOf(entry, numbers, sizeBytes, entry.payloadOffset + end) };
  }
  const map = value('GNU.sparse.map');
  const texts =
    map === undefined
      ? records
          .filter(([key]) => key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes')
          .map(([, one]) => one)
      : map.split(',');
  const numbers = texts.filter((one) => one !== '').map((one) => numberText(one, entry));
  return { name, sizeBytes, runs: runsOf(entry, numbers, sizeBytes, entry.payloadOffset) };
}

/** Pairs in the header (4) and in the blocks behind it (21 each); the size of the file in the header. */
function oldForm(entry: TarEntry, blocks: Uint8Array): SparseMap {
  // The header itself is the last one that is of type S; the blocks of its map follow it.
  let at = 0;
  while (at < blocks.length && blocks[at + 156] !== 0x53)
    at += BLOCK * (1 + Math.ceil(sizeAt(blocks, at) / BLOCK));
  const header = blocks.subarray(at, at + BLOCK);
  if (header.length < BLOCK) throw invalid(entry);
  const sizeBytes = field(header, 483, entry);
  const numbers: number[] = [];
  const pairs = (block: Uint8Array, from: number, count: number): void => {
    for (let index = 0; index < count; index += 1) {
      const place = from + index * 24;
      if (block[place] === 0) return;
      numbers.push(field(block, place, entry), field(block, place + 12, entry));
    }
  };
  pairs(header, 386, 4);
  for (let next = at + BLOCK; next < blocks.length; next += BLOCK)
    pairs(blocks.subarray(next, next + BLOCK), 0, 21);
  return { name: entry.name, sizeBytes, runs: runsOf(entry, numbers, sizeBytes, entry.payloadOffset) };
}

function sizeAt(blocks: Uint8Array, at: number): number {
  return numberOf(blocks.subarray(at + 124, at + 136)) ?? 0;
}

function field(block: Uint8Array, at: number, entry: TarEntry): number {
  const value = numberOf(block.subarray(at, at + 12));
  if (value === undefined || value < 0) throw invalid(entry);
  return value;
}

/** Form 1.0: decimal numbers, a line each, at the start of the payload, padded to a block. */
async function mapInPayload(entry: TarEntry, read: ReadAt): Promise<{ numbers: number[]; end: number }> {
  const numbers: number[] = [];
  let text = '';
  for (let at = 0; at < entry.size; at += BLOCK) {
    const block = await read(entry.payloadOffset + at, Math.min(BLOCK, entry.size - at));
    for (const byte of block) {
      if (byte !== NEWLINE) {
        text += String.fromCharCode(byte);
        if (text.length > 20) throw invalid(entry);
        continue;
      }
      numbers.push(numberText(text, entry));
      text = '';
      if (numbers[0]! > MAX_RUNS) throw invalid(entry);
      if (numbers.length === 1 + 2 * numbers[0]!) return { numbers: numbers.slice(1), end: at + BLOCK };
    }
  }
  throw invalid(entry);
}

/** Pairs (offset, length) laid out one after the other in the archive. */
function runsOf(entry: TarEntry, numbers: readonly number[], sizeBytes: number, start: number): SparseRun[] {
  if (numbers.length % 2 !== 0 || numbers.length / 2 > MAX_RUNS) throw invalid(entry);
  const runs: SparseRun[] = [];
  let archiveOffset = start;
  let end = 0;
  for (let index = 0; index < numbers.length; index += 2) {
    const fileOffset = numbers[index]!;
    const length = numbers[index + 1]!;
    if (fileOffset < end || fileOffset + length > sizeBytes) throw invalid(entry);
    if (length > 0) runs.push({ fileOffset, archiveOffset, length });
    archiveOffset += length;
    end = fileOffset + length;
  }
  if (archiveOffset > entry.payloadOffset + entry.size) throw invalid(entry);
  return runs;
}

/** All records of the extended headers among these blocks, in order, doubled keys too. */
function paxRecords(blocks: Uint8Array): [string, string][] {
  const records: [string, string][] = [];
  for (let at = 0; at + BLOCK <= blocks.length; ) {
    const size = sizeAt(blocks, at);
    if (blocks[at + 156] === 0x78) {
      let content: string = byteString(blocks.subarray(at + BLOCK, at + BLOCK + size));
      for (let match = next(content); match !== null; match = next(content)) {
        const length = Number(match[1]);
        const whole = content.slice(0, length - 1);
        const equals = whole.indexOf('=');
        records.push([whole.slice(match[0].length, equals), whole.slice(equals + 1)]);
        content = content.slice(length);
      }
    }
    at += BLOCK * (1 + Math.ceil(size / BLOCK));
  }
  return records;
}

function next(content: string): RegExpExecArray | null {
  const match = /^([1-9]\d{0,6}) /.exec(content);
  return match !== null && Number(match[1]) > match[0].length && Number(match[1]) <= content.length
    ? match
    : null;
}

function numberText(text: string | undefined, entry: TarEntry): number {
  const value = text !== undefined && /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw invalid(entry);
  return value;
}

function invalid(entry: TarEntry): CodedError {
  return new CodedError('LAYER_INVALID', {
    message: 'the map of a sparse file is not valid',
    detail: { offset: entry.headerOffset },
  });
}
