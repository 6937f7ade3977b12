import { Readable } from 'node:stream';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { Context } from 'koa';
import type { AcceldTask } from './acceld.ts';

/** Answers what `work` made: a stream as it is, all else as JSON; an error as acceleration-service words it. */
export async function answered(ctx: Context, work: (ctx: Context) => Promise<unknown>): Promise<void> {
  ctx.type = 'application/json';
  try {
    const made = await work(ctx);
    ctx.body = made instanceof Readable ? made : JSON.stringify(made);
  } catch (error) {
    if (!isCoded(error)) throw error;
    ctx.status = error.facts.status;
    ctx.body = JSON.stringify(acceldError(error));
  }
}

/** What acceleration-service calls our codes; it has no others that would fit. */
const ACCELD_CODES: Readonly<Record<string, string>> = {
  AUTH_REQUIRED: 'UNAUTHORIZED',
  REQUEST_INVALID: 'ILLEGAL_PARAMETER',
  ROUTE_UNKNOWN: 'INVALID_ENDPOINT',
};

/** An error of the API: its clients show `message` and nothing else. */
export function acceldError(error: CodedError): { readonly code: string; readonly message: string } {
  return { code: `ERR_${ACCELD_CODES[error.code] ?? error.code}`, message: error.message };
}

/** The job of this id. @throws {CodedError} `JOB_UNKNOWN` */
export async function knownTask(list: () => Promise<readonly AcceldTask[]>, id = ''): Promise<AcceldTask> {
  const task = (await list()).find((one) => one.id === id);
  if (task === undefined)
    throw new CodedError('JOB_UNKNOWN', { message: `no job ${id.slice(0, 80)} is known` });
  return task;
}
