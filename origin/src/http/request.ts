import { type Digest, parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName, type RepositoryName } from '@sepia/base/names/repository';
import { H_CHANGE, H_HOP, H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { queryValue } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { Others } from '../cluster/others.ts';

/** `upstream` and `repository` of a request. @throws `REQUEST_INVALID`, `NAME_INVALID` */
export function repositoryOf(ctx: Context): { upstream: string; repository: RepositoryName } {
  return {
    upstream: required(ctx, 'upstream'),
    repository: parseRepositoryName(required(ctx, 'repository')),
  };
}

/** Whose push it is, as its proxy says; all that proxies of the version before send counts as one. */
export function clientOf(ctx: Context): string {
  return (queryValue(ctx, 'client') ?? '').slice(0, 300);
}

/** The digest of the path with upstream and repository of the query. */
export function blobNameOf(ctx: Context): BlobName {
  return { ...repositoryOf(ctx), digest: digestParam(ctx) };
}

/** The digest in the path. @throws {CodedError} `DIGEST_SYNTAX` */
export function digestParam(ctx: Context): Digest {
  return parseDigest(String((ctx as unknown as { params: Record<string, string> }).params['digest'] ?? ''));
}

/** @throws `REQUEST_INVALID` that names the query key */
export function required(ctx: Context, name: string): string {
  const value = queryValue(ctx, name);
  if (value === undefined)
    throw new CodedError('REQUEST_INVALID', { message: `query value ${name} is missing` });
  return value;
}

/** A whole number of a query, or undefined. @throws `REQUEST_INVALID` */
export function numberOf(ctx: Context, name: string, max: number): number | undefined {
  const text = queryValue(ctx, name);
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text))
    throw new CodedError('REQUEST_INVALID', { message: `query value ${name} is not a number` });
  return Math.min(max, Number(text));
}

/** Id of a change that a proxy may hand to several origins, or undefined. @throws `REQUEST_INVALID` */
export function changeOf(ctx: Context): string | undefined {
  const id = ctx.get(H_CHANGE);
  if (id === '') return undefined;
  if (/^[\w-]{16,64}$/.test(id)) return id;
  throw new CodedError('REQUEST_INVALID', { message: `${H_CHANGE} is not an id of 16 to 64 characters` });
}

/** Whether other origins are asked for the answer: not where one of them asks, or a tracker that asks each by itself. */
export function othersOf(ctx: Context): Others {
  return ctx.get(H_HOP) === '' ? 'ask' : 'skip';
}

/** `Authorization` that a client brought for the upstream, as a member passes it on. */
export function broughtAuthorization(ctx: Context): string | undefined {
  const text = ctx.get(H_UPSTREAM_AUTHORIZATION);
  return text === '' ? undefined : text;
}

/** Length of the body as announced, or undefined. */
export function contentLength(ctx: Context): number | undefined {
  const text = ctx.get('content-length');
  return text === '' ? undefined : Number(text);
}
