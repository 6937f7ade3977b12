import { CodedError } from '@sepia/base/errors';
import type { z } from 'zod';

/**
 * The check of what a caller sent, as `readJson` takes it: what fits the schema, or a refusal that names the field, after
 * `what` where it is given. @throws {CodedError} `REQUEST_INVALID`
 */
export function fits<T extends z.ZodType>(schema: T, what?: string): (value: unknown) => z.output<T> {
  return (value) => {
    const found = schema.safeParse(value);
    if (found.success) return found.data;
    throw new CodedError('REQUEST_INVALID', { message: faultOf(found.error, what) });
  };
}

/**
 * The answer of a member, checked against its schema as strictly as a request. @throws {CodedError} `PEER_HTTP` for one that
 * does not fit
 */
export function toldBy<T extends z.ZodType>(member: string, schema: T, value: unknown): z.output<T> {
  const found = schema.safeParse(value);
  if (found.success) return found.data;
  throw new CodedError('PEER_HTTP', { message: faultOf(found.error, member), detail: { status: 200 } });
}

/** The first fault and the path of its field; a fault of the whole has none. */
function faultOf({ issues }: z.ZodError, what: string | undefined): string {
  const [issue] = issues;
  return [what, issue?.path.join('.'), issue?.message]
    .filter((part) => part !== undefined && part !== '')
    .join(': ');
}
