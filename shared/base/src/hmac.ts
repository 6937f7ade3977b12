import { hash } from 'node:crypto';

const BLOCK_BYTES = 64;
const HASH_BYTES = 32;

/** A key mixed with both pads of RFC 2104. */
interface Pads {
  readonly inner: Uint8Array;
  readonly outer: Uint8Array;
}

const made = new WeakMap<Uint8Array, Pads>();

/**
 * HMAC-SHA-256 of `text`, by RFC 2104. `key` is held by its identity: its bytes must not change. Each call between members
 * costs four, and two hashes in one go take half as long as an object of OpenSSL that is made for each.
 */
export function hmacOf(key: Uint8Array, text: string): Buffer {
  let pads = made.get(key);
  if (pads === undefined) {
    pads = padsOf(key);
    made.set(key, pads);
  }
  const { inner, outer } = pads;
  const first = Buffer.allocUnsafe(BLOCK_BYTES + Buffer.byteLength(text));
  first.set(inner);
  first.write(text, BLOCK_BYTES);
  const second = Buffer.allocUnsafe(BLOCK_BYTES + HASH_BYTES);
  second.set(outer);
  second.set(hash('sha256', first, 'buffer'), BLOCK_BYTES);
  return hash('sha256', second, 'buffer');
}

function padsOf(key: Uint8Array): Pads {
  const block = new Uint8Array(BLOCK_BYTES);
  block.set(key.length > BLOCK_BYTES ? hash('sha256', key, 'buffer') : key);
  return { inner: block.map((byte) => byte ^ 0x36), outer: block.map((byte) => byte ^ 0x5c) };
}
