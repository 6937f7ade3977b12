import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';

/** How far the date of a signed call may be off, in ms. */
export const SIGN_SKEW_MS = 60_000;
/** How long a nonce is remembered, in ms: twice the skew, so a replay is always seen. */
export const NONCE_KEEP_MS = 120_000;
const MAX_NONCES = 400_000;

/** What the signature of an internal call covers. `path` includes the query; `bodyBytes` is −1 for a chunked body. */
export interface SignedCall {
  readonly method: string;
  readonly path: string;
  readonly bodyBytes: number;
}

/** Value of `Authorization` for an internal call: `Sepia v=1,id=…,date=<ms>,nonce=<hex>,sig=<hex>`. */
export function signCall(key: Uint8Array, callerId: string, call: SignedCall, nowMs: number): string {
  const nonce = randomBytes(16).toString('hex');
  return `Sepia v=1,id=${callerId},date=${nowMs},nonce=${nonce},sig=${mac(key, callerId, call, nowMs, nonce).toString('hex')}`;
}

/** Checks signed calls and remembers their nonces; one per process. */
export class CallVerifier {
  readonly #key: Uint8Array;
  /** Insertion order is about date order, so the oldest come first. */
  readonly #nonces = new Map<string, number>();

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** Returns the caller's id. @throws {CodedError} `SIGNATURE_INVALID` */
  verify(header: string | undefined, call: SignedCall, nowMs: number): string {
    const found =
      /^Sepia v=1,id=([\w.-]{1,128}),date=(\d{1,15}),nonce=([0-9a-f]{32}),sig=([0-9a-f]{64})$/.exec(
        header ?? '',
      );
    if (found === null) throw bad('no signature');
    const [, id = '', date = '', nonce = '', signature = ''] = found;
    const dateMs = Number(date);
    if (Math.abs(nowMs - dateMs) > SIGN_SKEW_MS) throw bad('date is off by more than 60 s; check the clocks');
    const expected = mac(this.#key, id, call, dateMs, nonce);
    if (!timingSafeEqual(expected, Buffer.from(signature, 'hex')))
      throw bad('made with another cluster key, or for another call');
    this.#forget(nowMs);
    if (this.#nonces.has(nonce)) throw bad('replayed');
    if (this.#nonces.size >= MAX_NONCES)
      throw new CodedError('DRAINING', { message: 'too many signed calls within two minutes' });
    this.#nonces.set(nonce, nowMs);
    return id;
  }

  #forget(nowMs: number): void {
    for (const [nonce, atMs] of this.#nonces) {
      if (nowMs - atMs <= NONCE_KEEP_MS) return;
      this.#nonces.delete(nonce);
    }
  }
}

function mac(key: Uint8Array, id: string, call: SignedCall, dateMs: number, nonce: string): Buffer {
  const text = [
    'sepia-http-1',
    id,
    call.method,
    call.path,
    String(dateMs),
    nonce,
    String(call.bodyBytes),
  ].join('\n');
  return createHmac('sha256', key).update(text).digest();
}

function bad(why: string): CodedError {
  return new CodedError('SIGNATURE_INVALID', { message: `internal call refused: ${why}`, detail: { why } });
}
