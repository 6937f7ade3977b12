import { once } from 'node:events';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { H_HOP } from '@sepia/cluster/api/headers';
import { FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import type { InternalResponse } from '@sepia/http/client';
import type { Context } from 'koa';
import type { Members } from '../cluster/members.ts';
import { RELAY_STALL_MS } from '../deadlines/members.ts';

const REQUEST_HEADERS = ['range', 'if-none-match', 'if-range'];
const ANSWER_HEADERS = [
  'accept-ranges',
  'cache-control',
  'content-length',
  'content-range',
  'content-type',
  'docker-content-digest',
  'etag',
  'sepia-attempt',
  'sepia-blob-size',
  'sepia-error',
  'sepia-piece-hash',
  'retry-after',
];

/**
 * Passes a GET or HEAD on to the origin that has the blob, and its answer back, without a redirect.
 * @throws {CodedError} `PEER_HTTP` before anything was answered: another way may be tried
 */
export async function relay(
  ctx: Context,
  members: Members,
  id: string,
  signal: AbortSignal,
  lasts: 'body' | 'wait' = 'body',
): Promise<void> {
  const headers: Record<string, string> = { [H_HOP]: '1' };
  for (const name of REQUEST_HEADERS) if (ctx.get(name) !== '') headers[name] = ctx.get(name);
  const method = ctx.method === 'HEAD' ? 'HEAD' : 'GET';
  const call = {
    method,
    path: ctx.url,
    headers,
    lasts,
    headersTimeoutMs: FIRST_ANSWER_MS.origin,
    bodyTimeoutMs: RELAY_STALL_MS,
  } as const;
  const answer = await members.attended(
    id,
    async (late) => await members.raw(id, { ...call, signal: late }),
    signal,
  );
  if (answer.status === 503 || answer.status === 500) {
    await answer.body.dump();
    throw new CodedError('PEER_HTTP', {
      message: `${id} cannot serve it now`,
      detail: { id, status: answer.status },
    });
  }
  ctx.respond = false;
  ctx.res.statusCode = answer.status;
  for (const name of ANSWER_HEADERS) {
    const value = answer.headers[name];
    if (value !== undefined) ctx.res.setHeader(name, value);
  }
  await pipe(ctx, answer, signal);
}

async function pipe(ctx: Context, answer: InternalResponse, signal: AbortSignal): Promise<void> {
  try {
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      if (!ctx.res.write(chunk)) await once(ctx.res, 'drain', { signal });
    }
    ctx.res.end();
  } catch (error) {
    throwIfBug(error);
    ctx.res.destroy();
    if (!signal.aborted) throw error;
  }
}
