import { CodedError } from '@sepia/base/errors';
import type { Context } from 'koa';
import type { RequestState } from './app.ts';
import type { CallVerifier } from './sign.ts';

/** Checks one request and notes the caller's id. @throws {CodedError} `SIGNATURE_INVALID` */
export function verifyRequest(ctx: Context, verifier: CallVerifier, nowMs: number): void {
  const caller = verifier.verify(
    ctx.get('authorization'),
    { method: ctx.method, path: ctx.url, bodyBytes: bodyBytes(ctx) },
    nowMs,
  );
  (ctx.state as RequestState).caller = caller;
}

/** True if the request claims to come from a member. */
export function claimsSigned(ctx: Context): boolean {
  return ctx.get('authorization').startsWith('Sepia ');
}

function bodyBytes(ctx: Context): number {
  if (ctx.get('transfer-encoding') !== '') return -1;
  const length = ctx.get('content-length');
  return length === '' ? 0 : Number(length);
}

/** Reads a request body of at most `limitBytes` to memory. @throws {CodedError} `REQUEST_TOO_LARGE` (or `tooLarge`) */
export async function readBody(
  ctx: Context,
  limitBytes: number,
  tooLarge: () => CodedError = () => new CodedError('REQUEST_TOO_LARGE'),
): Promise<Buffer> {
  if (Number(ctx.get('content-length') || 0) > limitBytes) throw tooLarge();
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of ctx.req as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Reads a JSON request body; `check` turns it into its type or throws. @throws {CodedError} `REQUEST_INVALID` */
export async function readJson<T>(
  ctx: Context,
  limitBytes: number,
  check: (value: unknown) => T,
): Promise<T> {
  const bytes = await readBody(ctx, limitBytes);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new CodedError('REQUEST_INVALID', { message: 'body is not valid JSON', cause });
  }
  return check(value);
}

/** A query value that is there once, or undefined. @throws {CodedError} `REQUEST_INVALID` when given twice */
export function queryValue(ctx: Context, name: string): string | undefined {
  const value = ctx.query[name];
  if (Array.isArray(value)) throw new CodedError('REQUEST_INVALID', { message: `${name} is given twice` });
  return value === '' ? undefined : value;
}
