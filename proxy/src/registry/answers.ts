import type { Context } from 'koa';

/** Answers without a body: `Content-Length: 0`, no type (204 has neither). */
export function sendEmpty(ctx: Context, status: 201 | 202 | 204): void {
  ctx.status = status;
  if (status === 204) return;
  ctx.body = '';
  ctx.remove('Content-Type');
}

/** Path of something under the repository as the client named it, with its `ns`, so that it leads to the same place. */
export function locationOf(ctx: Context, name: string, rest: string): string {
  const ns = ctx.query['ns'];
  return `/v2/${name}/${rest}${typeof ns === 'string' && ns !== '' ? `?ns=${encodeURIComponent(ns)}` : ''}`;
}
