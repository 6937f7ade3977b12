import { createHash } from 'node:crypto';
import { throwIfBug } from '@sepia/base/failure';
import { UNKNOWN_END_MS } from '../deadlines.ts';

/** User and password of a client, as its `Authorization: Basic` carries them. Secrets: never logged. */
export interface BasicCredentials {
  readonly username: string;
  readonly password: string;
}

/** Longest `Authorization` that is looked at, in characters: tokens of cloud registries reach a few thousand. */
export const MAX_AUTHORIZATION_CHARS = 16 * 1024;

/** Reads a Basic header (RFC 7617, UTF-8); undefined if it is none or malformed. */
export function parseBasic(authorization: string | undefined): BasicCredentials | undefined {
  const found = /^Basic +([A-Za-z0-9+/=_-]+)$/i.exec(authorization ?? '');
  if (found === null) return undefined;
  const text = Buffer.from(found[1]!, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 1) return undefined;
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** The token of a Bearer header; undefined if it is none. */
export function parseBearer(authorization: string | undefined): string | undefined {
  return /^Bearer +([\x21-\x7e]+)$/i.exec(authorization ?? '')?.[1];
}

/** What stands for a secret in keys of caches: nobody can turn it back. */
export function hashOf(authorization: string): string {
  return createHash('sha256').update(authorization).digest('base64url');
}

/** Claims of a token that looks like a JWT, not verified: good enough to shorten a time, never to allow. */
export function peekClaims(token: string): Readonly<Record<string, unknown>> | undefined {
  const payload = token.split('.')[1];
  if (payload === undefined || token.split('.').length !== 3) return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}

/** When a Bearer token says that it expires, in ms; undefined if it does not say. */
export function expiryMs(authorization: string): number | undefined {
  const token = parseBearer(authorization);
  const exp = token === undefined ? undefined : peekClaims(token)?.['exp'];
  return typeof exp === 'number' && Number.isFinite(exp) ? exp * 1000 : undefined;
}

/** Until when credentials may count as right that were right at `nowMs`; `knownEndMs`: what is known of an opaque token's end. */
export function believableUntilMs(authorization: string, nowMs: number, knownEndMs?: number): number {
  const endMs = expiryMs(authorization) ?? knownEndMs;
  if (endMs !== undefined) return endMs;
  return parseBearer(authorization) === undefined ? Number.MAX_SAFE_INTEGER : nowMs + UNKNOWN_END_MS;
}
