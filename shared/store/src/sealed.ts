import { hash } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';

const CHECK_BYTES = 32;
const MAGIC_BYTES = 4;
const HEAD_BYTES = MAGIC_BYTES + 4;

/** A small file of ours: a JSON header, then raw bytes. */
export interface SealedContent {
  readonly header: Readonly<Record<string, unknown>>;
  readonly body: Uint8Array;
}

/**
 * Binary form: magic 4 B (its last character is the version) | header length u32 | header JSON, UTF-8 | body |
 * SHA-256 over all before, 32 B. Integers big-endian.
 */
export function seal(magic: string, content: SealedContent): Uint8Array {
  const header = Buffer.from(JSON.stringify(content.header), 'utf8');
  const head = Buffer.alloc(HEAD_BYTES);
  head.write(magic, 0, MAGIC_BYTES, 'latin1');
  head.writeUInt32BE(header.length, MAGIC_BYTES);
  const payload = Buffer.concat([head, header, content.body]);
  return Buffer.concat([payload, hash('sha256', payload, 'buffer')]);
}

/** Reads {@link seal}; `body` is a view of `input`. @throws `DISK_CORRUPT` and nothing else */
export function unseal(magic: string, input: Uint8Array): SealedContent {
  const bytes = Buffer.from(input.buffer, input.byteOffset, input.byteLength);
  if (bytes.length < HEAD_BYTES + CHECK_BYTES) throw corrupt('length');
  if (bytes.toString('latin1', 0, MAGIC_BYTES) !== magic) throw corrupt('magic');
  const payload = bytes.subarray(0, bytes.length - CHECK_BYTES);
  if (!hash('sha256', payload, 'buffer').equals(bytes.subarray(payload.length))) throw corrupt('checksum');
  const bodyAt = HEAD_BYTES + bytes.readUInt32BE(MAGIC_BYTES);
  if (bodyAt > payload.length) throw corrupt('header length');
  return {
    header: parseHeader(payload.toString('utf8', HEAD_BYTES, bodyAt)),
    body: payload.subarray(bodyAt),
  };
}

/** The one error for a file of ours that does not read: `part` says where. */
export function corrupt(part: string, cause?: unknown): CodedError {
  return new CodedError('DISK_CORRUPT', {
    message: `content on disk is damaged: ${part}`,
    detail: { part },
    cause,
  });
}

function parseHeader(text: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throwIfBug(cause);
    throw corrupt('header', cause);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) throw corrupt('header');
  return header as Record<string, unknown>;
}
