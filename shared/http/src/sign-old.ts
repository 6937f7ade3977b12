import { randomBytes } from 'node:crypto';
import { hmacOf } from '@sepia/base/hmac';

/** `Authorization` of the former form (protocol version 1): it covers neither recipient, headers nor the body's bytes. */
export const OLD_FORM =
  /^Sepia v=1,id=([\w.-]{1,128}),date=(\d{1,15}),nonce=([0-9a-f]{32}),sig=([0-9a-f]{64})$/;

interface OldCall {
  readonly method: string;
  readonly path: string;
  /** −1 for a chunked body. */
  readonly bodyBytes: number;
}

/** Signs a call in the former form, for members of the former version. */
export function signOld(
  signer: { readonly clusterKey: Uint8Array; readonly id: string },
  call: OldCall,
  nowMs: number,
): string {
  const nonce = randomBytes(16).toString('hex');
  const facts = { id: signer.id, date: String(nowMs), nonce };
  return `Sepia v=1,id=${signer.id},date=${nowMs},nonce=${nonce},sig=${oldMac(signer.clusterKey, facts, call).toString('hex')}`;
}

/** HMAC of a call in the former form, to sign it or to compare with what came. */
export function oldMac(
  key: Uint8Array,
  facts: { readonly id: string; readonly date: string; readonly nonce: string },
  call: OldCall,
): Buffer {
  const { id, date, nonce } = facts;
  const text = ['sepia-http-1', id, call.method, call.path, date, nonce, String(call.bodyBytes)].join('\n');
  return hmacOf(key, text);
}
