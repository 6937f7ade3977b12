import { fits } from '@sepia/cluster/message';
import { readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { z } from 'zod';

/** The JSON body of a call of a member, checked. @throws {CodedError} `REQUEST_INVALID` that names the field */
export async function jsonBody<T extends z.ZodType>(
  ctx: Context,
  schema: T,
  options: { readonly limitBytes: number; readonly what: string },
): Promise<z.output<T>> {
  return await readJson(ctx, options.limitBytes, fits(schema, options.what));
}
