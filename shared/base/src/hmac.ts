import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';

/** Keys as OpenSSL has them: to make one of bytes for each signature takes three times as long as to sign. */
const made = new WeakMap<Uint8Array, KeyObject>();

/** HMAC-SHA-256 of `text`. `key` is held by its identity: its bytes must not change. */
export function hmacOf(key: Uint8Array, text: string): Buffer {
  let secret = made.get(key);
  if (secret === undefined) {
    secret = createSecretKey(key);
    made.set(key, secret);
  }
  return createHmac('sha256', secret).update(text).digest();
}
