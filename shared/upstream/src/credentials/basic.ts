import type { Credentials } from './source.ts';

/** Value of `Authorization: Basic` for an account (RFC 7617, in UTF-8). */
export function basic(credentials: Credentials): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`, 'utf8').toString('base64')}`;
}
