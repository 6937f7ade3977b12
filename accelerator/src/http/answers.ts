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
    const code = error.code === 'REQUEST_INVALID' ? 'ILLEGAL_PARAMETER' : error.code;
    ctx.body = JSON.stringify({ code: `ERR_${code}`, message: error.message });
  }
}

/** The job of this id. @throws {CodedError} `COMMAND_UNKNOWN` */
export async function knownTask(list: () => Promise<readonly AcceldTask[]>, id = ''): Promise<AcceldTask> {
  const task = (await list()).find((one) => one.id === id);
  if (task === undefined)
    throw new CodedError('COMMAND_UNKNOWN', { message: `no job ${id.slice(0, 80)} is known` });
  return task;
}
