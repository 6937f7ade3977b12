import { hash } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Context } from 'koa';
import type { RequestState } from './app.ts';
import { wholeBody } from './bodies/whole-body.ts';
import { type CallVerifier, type SignedBody, signatureFault } from './sign.ts';

/** Most bytes of a signed body that is hashed before its route runs: metainfo of a 1 TiB blob in base64. */
const MAX_HASHED_BYTES = 64 * 1024 * 1024;
/** Calls whose body may be a stream, signed by length: its digest is in the path or comes with the session's end. */
const STREAMED = /^(?:PUT \/v1\/blobs\/[^/?]+|(?:PATCH|PUT) \/v1\/uploads\/[^/?]+)(?:\?|$)/;

/**
 * Checks one request, body and all: a body that was signed by its hash is read here, and what reads it later gets those
 * bytes. Notes the caller's id. @throws {CodedError} `SIGNATURE_INVALID`, `MEMBER_BUSY`
 */
export async function verifyRequest(ctx: Context, verifier: CallVerifier): Promise<void> {
  const state = ctx.state as RequestState;
  const { method, url: path } = ctx;
  const announced = bodyBytes(ctx);
  const { caller, body } = verifier.verify(
    { method, path, headers: ctx.req.headers, bodyBytes: announced },
    (clock, wall) => {
      ctx.set('Sepia-Clock', clock);
      if (wall !== undefined) ctx.set('Sepia-Wall', wall);
    },
  );
  if (body?.type === 'hash') {
    const bytes = announced === 0 ? Buffer.alloc(0) : await readBody(ctx, MAX_HASHED_BYTES);
    if (hash('sha256', bytes, 'hex') !== body.hex)
      throw signatureFault('the body is another than was signed');
    state.body = bytes;
  } else if (body !== undefined) {
    checkStream(body, announced, mayStream(method, path));
  }
  state.caller = caller;
}

/** Whether the body of a call may be a stream. */
export function mayStream(method: string, path: string): boolean {
  return STREAMED.test(`${method} ${path}`);
}

function checkStream(body: SignedBody, announced: number, mayStream: boolean): void {
  if (!mayStream) throw signatureFault('the body of this call must be signed by its hash');
  const expected = body.type === 'length' ? body.bytes : -1;
  if (announced !== expected) throw signatureFault('the length is another than was signed');
}

/** True if the request claims to come from a member. */
export function claimsSigned(ctx: Context): boolean {
  return ctx.get('authorization').startsWith('Sepia ') || ctx.get('sepia-signature') !== '';
}

function bodyBytes(ctx: Context): number {
  if (ctx.get('transfer-encoding') !== '') return -1;
  const length = ctx.get('content-length');
  return length === '' ? 0 : Number(length);
}

/** The request's body to read once, whether or not the signature needed it before. */
export function bodyOf(ctx: Context): AsyncIterable<Uint8Array> {
  const { body } = ctx.state as RequestState;
  return body === undefined ? ctx.req : inOneGo(body);
}

async function* inOneGo(body: Buffer): AsyncGenerator<Uint8Array, void, void> {
  if (body.length > 0) yield body;
}

/** Reads a request body of at most `limitBytes` to memory. @throws {CodedError} `REQUEST_TOO_LARGE` (or `tooLarge`) */
export async function readBody(
  ctx: Context,
  limitBytes: number,
  tooLarge: () => CodedError = () => new CodedError('REQUEST_TOO_LARGE'),
): Promise<Buffer> {
  if (Number(ctx.get('content-length') || 0) > limitBytes) throw tooLarge();
  const { body } = ctx.state as RequestState;
  if (body !== undefined) {
    if (body.length > limitBytes) throw tooLarge();
    return body;
  }
  return await wholeBody(bodyOf(ctx), limitBytes, tooLarge);
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
    throwIfBug(cause);
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
