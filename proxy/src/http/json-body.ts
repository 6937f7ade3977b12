import { CodedError } from '@sepia/base/errors';
import { readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { z } from 'zod';

/** The JSON body of a call of a member, checked. @throws {CodedError} `REQUEST_INVALID` that names the field */
export async function jsonBody<T extends z.ZodType>(
  ctx: Context,
  schema: T,
  options: { readonly limitBytes: number; readonly what: string },
): Promise<z.output<T>> {
  return await readJson(ctx, options.limitBytes, (value) => {
    const checked = schema.safeParse(value);
    if (checked.success) return checked.data;
    const [issue] = checked.error.issues;
    throw new CodedError('REQUEST_INVALID', {
      message: `${options.what}: ${issue?.path.join('.')} ${issue?.message}`,
    });
  });
}
