import { CodedError } from '@sepia/base/errors';
import type { z } from 'zod';

/** A message that fits its schema. @throws {CodedError} `REQUEST_INVALID` that names the field */
export function checked<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const found = schema.safeParse(value);
  if (found.success) return found.data;
  const [issue] = found.error.issues;
  throw new CodedError('REQUEST_INVALID', { message: `${issue?.path.join('.')}: ${issue?.message}` });
}
