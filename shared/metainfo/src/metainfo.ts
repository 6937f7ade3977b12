import { hash } from 'node:crypto';
import { Bitfield } from '@sepia/base/bitfield';
import { type Digest, isDigest } from '@sepia/base/digest';
import { BLOB_TOO_LARGE, CodedError } from '@sepia/base/errors';
import { HASH_BYTES, pieceCount } from './tree.ts';

/** Blobs above this have no metainfo (a piece layer of 32 MiB): 1 TiB. */
export const MAX_BLOB_BYTES = 2 ** 40;

/**
 * For the size that a registry states of a blob, before anything is begun for it.
 * @throws {CodedError} `BACKEND_DOWN` above {@link MAX_BLOB_BYTES}, with a reason by which nobody asks again
 */
export function requireKept(
  sizeBytes: number,
  { digest, upstream }: { digest: Digest; upstream: string },
): void {
  if (sizeBytes <= MAX_BLOB_BYTES) return;
  throw new CodedError('BACKEND_DOWN', {
    message: `upstream ${upstream} states ${sizeBytes} bytes for a blob; none of more than 1 TiB is kept`,
    detail: { upstream, digest, sizeBytes, reason: BLOB_TOO_LARGE },
  });
}

const MAGIC = 'SPM1';
const ATTEMPT_BYTES = 16;
/** Stands for the attempt of a whole blob, of which there is but one: no fetch has it. */
export const FINAL_ATTEMPT = '0'.repeat(ATTEMPT_BYTES * 2);

/**
 * The attempt that every fetch of a blob begins with. It is the same everywhere: leaders that begin apart
 * (each thought the other gone) have the same pieces, and what one made known stays true of the other's.
 */
export function firstAttempt(digest: Digest): string {
  return hash('sha256', `sepia-attempt-1\n${digest}`, 'hex').slice(0, ATTEMPT_BYTES * 2);
}

/** `open`: size fixed, hashes arrive by index and are only added. `final`: all there, whole digest verified. */
export type MetainfoState = 'open' | 'final';

/**
 * What a swarm needs to know of a blob: its size and the hash of each 1 MiB piece.
 * An `open` one belongs to an attempt (32 hex): a new attempt drops all that the old one said.
 */
export class Metainfo {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly pieceCount: number;
  #attempt: string;
  #state: MetainfoState;
  readonly #known: Bitfield;
  readonly #layer: Uint8Array;
  #finalEtag: string | undefined;

  private constructor(
    digest: Digest,
    sizeBytes: number,
    attempt: string,
    state: MetainfoState,
    known: Bitfield,
    layer: Uint8Array,
  ) {
    this.digest = digest;
    this.sizeBytes = sizeBytes;
    this.pieceCount = pieceCount(sizeBytes);
    this.#attempt = attempt;
    this.#state = state;
    this.#known = known;
    this.#layer = layer;
  }

  /** An open metainfo without hashes. `attempt`: 32 hex characters, drawn by the caller. @throws `METAINFO_INVALID` */
  static open(digest: Digest, sizeBytes: number, attempt: string): Metainfo {
    checkSize(sizeBytes);
    if (!/^[0-9a-f]{32}$/.test(attempt) || attempt === FINAL_ATTEMPT) throw invalid('attempt');
    const pieces = pieceCount(sizeBytes);
    return new Metainfo(
      digest,
      sizeBytes,
      attempt,
      'open',
      new Bitfield(pieces),
      new Uint8Array(pieces * HASH_BYTES),
    );
  }

  /** A final metainfo from a whole piece layer (32 bytes a piece; copied). @throws `METAINFO_INVALID` */
  static final(digest: Digest, sizeBytes: number, layer: Uint8Array): Metainfo {
    checkSize(sizeBytes);
    const pieces = pieceCount(sizeBytes);
    if (layer.length !== pieces * HASH_BYTES) throw invalid('layer');
    return new Metainfo(
      digest,
      sizeBytes,
      FINAL_ATTEMPT,
      'final',
      Bitfield.full(pieces),
      new Uint8Array(layer),
    );
  }

  get state(): MetainfoState {
    return this.#state;
  }

  get attempt(): string {
    return this.#attempt;
  }

  /** Number of pieces from the front whose hashes are all known: what a long-poll names as `from`. */
  get knownPrefix(): number {
    const missing = this.#known.nextMissing(0);
    return missing === -1 ? this.pieceCount : missing;
  }

  /** How many hashes are known. */
  get knownCount(): number {
    return this.#known.count;
  }

  /**
   * Changes with everything that a long-poll would tell: `"<attempt>.<hashes known>.<state>"`. Of a final one it names the
   * hashes too (`.<32 hex>` of the SHA-256 of the layer): who finds it the same has the same metainfo.
   */
  get etag(): string {
    if (this.#state === 'open') return `"${this.#attempt}.${this.#known.count}.open"`;
    // Nothing of a final one changes.
    this.#finalEtag ??= `"${this.#attempt}.${this.#known.count}.final.${hash('sha256', this.#layer, 'hex').slice(0, 32)}"`;
    return this.#finalEtag;
  }

  knows(index: number): boolean {
    return this.#known.has(index);
  }

  /** A view of 32 bytes, or undefined while the hash is not known. */
  pieceHash(index: number): Uint8Array | undefined {
    return this.#known.has(index)
      ? this.#layer.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
      : undefined;
  }

  /** True if `found` (32 bytes) is the hash of piece `index`; false if it differs or is not known. */
  matches(index: number, found: Uint8Array): boolean {
    const expected = this.pieceHash(index);
    return expected !== undefined && equalBytes(expected, found);
  }

  /** Adds a hash. Adding the same again does nothing. @throws `METAINFO_INVALID` if another is known for that piece */
  addHash(index: number, hash: Uint8Array): void {
    if (hash.length !== HASH_BYTES || index < 0 || index >= this.pieceCount) throw invalid('hash');
    const known = this.pieceHash(index);
    if (known !== undefined) {
      if (!equalBytes(known, hash)) throw invalid(`piece ${index} has another hash`);
      return;
    }
    this.#layer.set(hash, index * HASH_BYTES);
    this.#known.add(index);
  }

  /** Open → final: the whole digest was verified and all hashes are known. Idempotent. */
  finalize(): void {
    if (!this.#known.complete) throw new TypeError('finalize without all hashes');
    this.#state = 'final';
    this.#attempt = FINAL_ATTEMPT;
  }

  /** The whole piece layer; only when every hash is known. A copy. */
  layer(): Uint8Array {
    if (!this.#known.complete) throw new TypeError('layer without all hashes');
    return this.#layer.slice();
  }

  /**
   * Takes over what a newer answer says. Returns `same attempt: merged`, or `replaced` if `other` belongs to
   * another attempt or is final and contradicts a known hash: then the caller must start over with `other`.
   * `contested`: both are final and differ, so one of them is a lie. Nothing is taken over, and no word of either may
   * stand for the whole digest.
   * @throws `METAINFO_INVALID` if it is of another blob or size
   */
  merge(other: Metainfo): 'merged' | 'replaced' | 'contested' {
    if (other.digest !== this.digest || other.sizeBytes !== this.sizeBytes) throw invalid('another blob');
    if (this.#state === 'final')
      return other.state === 'final' && !equalBytes(this.#layer, other.#layer) ? 'contested' : 'merged';
    if (other.state === 'open' && other.attempt !== this.#attempt) return 'replaced';
    for (let index = 0; index < this.pieceCount; index++) {
      const theirs = other.pieceHash(index);
      const ours = this.pieceHash(index);
      if (theirs !== undefined && ours !== undefined && !equalBytes(ours, theirs)) return 'replaced';
    }
    for (let index = 0; index < this.pieceCount; index++) {
      const theirs = other.pieceHash(index);
      if (theirs !== undefined) this.addHash(index, theirs);
    }
    if (other.state === 'final') this.finalize();
    return 'merged';
  }

  /**
   * Binary form: `SPM1` | state u8 (0 open, 1 final) | digest length u8 | digest | size u64 | attempt 16 B |
   * known bitfield | 32 B per known hash, ascending. Integers big-endian. While open, hashes below `fromIndex`
   * are left out: what a long-poll already knows.
   */
  encode(fromIndex = 0): Uint8Array {
    const digest = Buffer.from(this.digest, 'latin1');
    const head = Buffer.alloc(6 + digest.length + 8 + ATTEMPT_BYTES);
    head.write(MAGIC, 0, 'latin1');
    head[4] = this.#state === 'final' ? 1 : 0;
    head[5] = digest.length;
    digest.copy(head, 6);
    head.writeBigUInt64BE(BigInt(this.sizeBytes), 6 + digest.length);
    head.write(this.#attempt, 14 + digest.length, 'hex');
    if (this.#known.complete && (fromIndex === 0 || this.#state === 'final'))
      return Buffer.concat([head, this.#known.bytes, this.#layer]);
    const told = new Bitfield(this.pieceCount);
    const hashes: Uint8Array[] = [];
    for (let index = fromIndex; index < this.pieceCount; index++) {
      if (!this.#known.has(index)) continue;
      told.add(index);
      hashes.push(this.pieceHash(index)!);
    }
    return Buffer.concat([head, told.bytes, ...hashes]);
  }

  /** Reads {@link Metainfo.encode}; copies. @throws `METAINFO_INVALID` and nothing else */
  static decode(input: Uint8Array): Metainfo {
    const bytes = Buffer.from(input.buffer, input.byteOffset, input.byteLength);
    if (bytes.length < 6 || bytes.toString('latin1', 0, 4) !== MAGIC) throw invalid('magic');
    const state = bytes[4];
    const digestEnd = 6 + bytes[5]!;
    const bitsAt = digestEnd + 8 + ATTEMPT_BYTES;
    if (state! > 1 || bytes.length < bitsAt) throw invalid('head');
    const digest = bytes.toString('latin1', 6, digestEnd);
    if (!isDigest(digest)) throw invalid('digest');
    const size = bytes.readBigUInt64BE(digestEnd);
    if (size > BigInt(MAX_BLOB_BYTES)) throw invalid('size');
    const sizeBytes = Number(size);
    const pieces = pieceCount(sizeBytes);
    const hashesAt = bitsAt + Math.ceil(pieces / 8);
    if (bytes.length < hashesAt) throw invalid('bitfield');
    const known = new Bitfield(pieces, bytes.subarray(bitsAt, hashesAt));
    if (!equalBytes(known.bytes, bytes.subarray(bitsAt, hashesAt))) throw invalid('spare bits');
    if (bytes.length !== hashesAt + known.count * HASH_BYTES) throw invalid('length');
    if (state === 1) {
      if (!known.complete) throw invalid('final without all hashes');
      return Metainfo.final(digest, sizeBytes, bytes.subarray(hashesAt));
    }
    const open = Metainfo.open(digest, sizeBytes, bytes.toString('hex', digestEnd + 8, bitsAt));
    let at = hashesAt;
    for (const index of known) {
      open.addHash(index, bytes.subarray(at, at + HASH_BYTES));
      at += HASH_BYTES;
    }
    return open;
  }
}

function checkSize(sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > MAX_BLOB_BYTES) throw invalid('size');
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function invalid(part: string): CodedError {
  return new CodedError('METAINFO_INVALID', { message: `metainfo is not valid: ${part}`, detail: { part } });
}
