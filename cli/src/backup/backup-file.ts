import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { RECORD_SPACES } from '@sepia/records/core/record-space';
import { z } from 'zod';

const MAGIC = Buffer.from('SEPIABK1');
const HEAD_BYTES = 4 + 32;
const MAX_FRAME_BYTES = 64 * 1024 * 1024;

const RECORD = z.object({ key: z.string(), stored: z.unknown() });
const FRAME = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('head'),
    version: z.number(),
    createdAtMs: z.number(),
    clusterVersion: z.number(),
    upstreams: z.array(z.string()),
  }),
  z.object({
    type: z.literal('records'),
    n: z.number(),
    space: z.enum(RECORD_SPACES),
    entries: z.array(RECORD),
    /** The last of its space. */
    last: z.boolean(),
  }),
  z.object({ type: z.literal('end'), n: z.number(), counts: z.record(z.string(), z.number()) }),
]);
/** One frame of a backup, checked. */
export type BackupFrame = z.infer<typeof FRAME>;
/** Says when a backup was begun, and of which upstreams. */
export type BackupHead = Extract<BackupFrame, { type: 'head' }>;

/**
 * A backup: `SEPIABK1`, then frames of 4 bytes length (big endian), SHA-256 of the payload, payload (JSON). The first
 * is the head, the last the end; each in between names its number, so that none can be lost unseen.
 */
export class BackupWriter {
  readonly #fd: number;
  #offset: number;

  private constructor(fd: number, offset: number) {
    this.#fd = fd;
    this.#offset = offset;
  }

  static create(file: string): BackupWriter {
    const fd = openSync(file, 'w', 0o600);
    writeSync(fd, MAGIC);
    return new BackupWriter(fd, MAGIC.length);
  }

  /** Goes on behind `offset`; what is behind it goes. */
  static resume(file: string, offset: number): BackupWriter {
    const fd = openSync(file, 'r+');
    ftruncateSync(fd, offset);
    return new BackupWriter(fd, offset);
  }

  write(frame: BackupFrame): void {
    const payload = Buffer.from(JSON.stringify(frame));
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32BE(payload.length, 0);
    createHash('sha256').update(payload).digest().copy(head, 4);
    const bytes = Buffer.concat([head, payload]);
    // A disk that becomes full takes a part of them and says so to the next write alone.
    for (let written = 0; written < bytes.length; )
      written += writeSync(this.#fd, bytes, written, bytes.length - written, this.#offset + written);
    this.#offset += bytes.length;
  }

  /** Closes the file once all of it is on the disk. */
  close(): void {
    fsyncSync(this.#fd);
    closeSync(this.#fd);
  }
}

/**
 * The frames of a backup with the offsets before and behind each, one in memory at a time.
 * @throws {CodedError} `DISK_CORRUPT` that names the offset of what is damaged or cut, `DISK_FORMAT` for a newer version
 */
export function* readFrames(
  file: string,
): Generator<{ frame: BackupFrame; offset: number; endOffset: number }> {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('REQUEST_INVALID', {
      message: `${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
  try {
    const magic = take(fd, 0, MAGIC.length);
    if (!magic.equals(MAGIC))
      throw new CodedError('DISK_FORMAT', { message: `${file} is not a backup of Sepia` });
    let offset = MAGIC.length;
    let records = 0;
    for (let index = 0; ; index++) {
      const frame = readFrame(fd, file, offset);
      const { type } = frame.frame;
      if ((index === 0) !== (type === 'head')) throw damaged(file, offset, 'is out of order');
      if (frame.frame.type === 'head' && frame.frame.version > 1)
        throw new CodedError('DISK_FORMAT', {
          message: `${file} was written by a newer version (${frame.frame.version})`,
        });
      if (frame.frame.type !== 'head' && frame.frame.n !== records)
        throw damaged(file, offset, `is number ${frame.frame.n}, expected ${records}`);
      if (type === 'records') records += 1;
      yield { ...frame, offset };
      offset = frame.endOffset;
      if (type === 'end') break;
    }
    if (take(fd, offset, 1).length > 0) throw damaged(file, offset, 'comes after the end');
  } finally {
    closeSync(fd);
  }
}

function readFrame(fd: number, file: string, offset: number): { frame: BackupFrame; endOffset: number } {
  const head = take(fd, offset, HEAD_BYTES);
  if (head.length < HEAD_BYTES) throw damaged(file, offset, 'is cut');
  const length = head.readUInt32BE(0);
  if (length > MAX_FRAME_BYTES) throw damaged(file, offset, 'has an impossible length');
  const payload = take(fd, offset + HEAD_BYTES, length);
  if (payload.length < length) throw damaged(file, offset, 'is cut');
  if (!createHash('sha256').update(payload).digest().equals(head.subarray(4)))
    throw damaged(file, offset, 'does not match its checksum');
  const frame = FRAME.safeParse(jsonOf(payload));
  if (!frame.success) throw damaged(file, offset, 'has an unknown form');
  return { frame: frame.data, endOffset: offset + HEAD_BYTES + length };
}

/** Undefined, which no frame is, for what is no JSON. */
function jsonOf(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString('utf8'));
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}

function take(fd: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let filled = 0;
  while (filled < length) {
    const count = readSync(fd, bytes, filled, length - filled, offset + filled);
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}

function damaged(file: string, offset: number, what: string): CodedError {
  return new CodedError('DISK_CORRUPT', {
    message: `${file}: the part at byte ${offset} ${what}`,
    detail: { file, offset },
  });
}
