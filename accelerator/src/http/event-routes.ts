import { Readable } from 'node:stream';
import type Router from '@koa/router';
import { LinkedAbort } from '@sepia/base/async/linked-abort';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { goneSignal } from '@sepia/http/client-gone';
import { routed } from '@sepia/http/router';
import type { Context } from 'koa';
import { eventStream } from '../events/event-stream.ts';
import type { JobWatch } from '../events/job-watch.ts';
import type { AcceldTask } from './acceld.ts';
import { answered, knownTask } from './answers.ts';

interface EventDeps {
  readonly list: () => Promise<readonly AcceldTask[]>;
  readonly watch: JobWatch;
  readonly nowMs: () => number;
  /** Aborted when this accelerator stops: streams end then. */
  readonly stopping: AbortSignal;
}

/** Streams at once; more are refused. */
export const MAX_STREAMS = 100;

/**
 * Jobs as they change, as server-sent events ({@link eventStream}), for who may read the list:
 * `GET /api/v1/conversions/events` of all, `GET /api/v1/conversions/<id>/events` of one.
 */
export function eventRoutes(router: Router, deps: EventDeps): void {
  let open = 0;
  const stream = (ctx: Context, only?: string): Readable => {
    if (open >= MAX_STREAMS)
      throw new CodedError('MEMBER_BUSY', {
        message: `${MAX_STREAMS} clients watch already; ask another one`,
      });
    const { watch, nowMs, stopping } = deps;
    const gone = goneSignal(ctx);
    // It went while its job was looked for.
    gone.throwIfAborted();
    const over = new LinkedAbort(stopping);
    const events = eventStream({ watch, nowMs }, only, over.signal);
    // One piece in advance: who does not read is told less, and nothing piles up for it.
    const body = Readable.from(untilOver(events, over.signal), { highWaterMark: 1 });
    open += 1;
    gone.addEventListener('abort', () => {
      open -= 1;
      over.abort(gone.reason);
    });
    ctx.set('Cache-Control', 'no-store');
    ctx.set('X-Accel-Buffering', 'no');
    ctx.type = 'text/event-stream';
    return body;
  };
  router.get('/api/v1/conversions/events', async (context) => {
    await answered(routed(context, 'conversion-events'), async (ctx) => stream(ctx));
  });
  router.get('/api/v1/conversions/:id/events', async (context) => {
    await answered(routed(context, 'conversion-events'), async (ctx) => {
      const { id } = await knownTask(deps.list, context.params['id']);
      return stream(ctx, id);
    });
  });
}

/** A client that goes, or our own stop, is an end like any other. */
async function* untilOver(events: AsyncIterable<string>, over: AbortSignal): AsyncGenerator<string> {
  try {
    yield* events;
  } catch (error) {
    throwIfBug(error);
    if (!over.aborted || error !== over.reason) throw error;
  }
}
