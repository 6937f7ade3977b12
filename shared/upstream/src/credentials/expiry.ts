import { tryParse } from '@sepia/base/failure';

/** More characters than this are no token. */
const MAX_SECRET_CHARS = 64 * 1024;

/**
 * When a secret says that it ends, in ms since 1970: a JSON web token's `exp`, or `expiration` of the base64 JSON that
 * ECR gives. Undefined for a secret that says nothing.
 */
export function expiryOfSecret(secret: string): number | undefined {
  if (secret.length > MAX_SECRET_CHARS) return undefined;
  const parts = secret.split('.');
  const body = parts.length === 3 ? parts[1]! : secret;
  const value = jsonOf(body);
  const seconds = parts.length === 3 ? value?.['exp'] : (value?.['expiration'] ?? value?.['exp']);
  return typeof seconds === 'number' && Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : undefined;
}

function jsonOf(base64: string): Record<string, unknown> | undefined {
  if (!/^[A-Za-z0-9+/_=-]+$/.test(base64)) return undefined;
  // Most secrets are no JSON.
  const parsed = tryParse(() => JSON.parse(Buffer.from(base64, 'base64').toString('utf8')) as unknown);
  const value = parsed.ok ? parsed.value : undefined;
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
}
