import { EventEmitter } from 'node:events';
import type { Context } from 'koa';
import t from 'tap';
import type { JobView } from '../../src/events/job-watch.ts';
import { MAX_WAITING, SyncRequests } from '../../src/http/sync-requests.ts';

type Ends = Record<string, 'PROCESSING' | 'COMPLETED' | 'FAILED'>;

function view(jobs: Ends): JobView {
  const entries = Object.entries(jobs);
  return {
    jobs: new Map(entries.map(([id, status]) => [id, JSON.stringify({ status, reason: 'why', source: id })])),
    ended: new Set(entries.flatMap(([id, status]) => (status === 'PROCESSING' ? [] : [id]))),
  };
}

/** A client, and a queue that is seen in these states one after the other, then in no other. */
function start(...states: Ends[]) {
  const res = Object.assign(new EventEmitter().setMaxListeners(0), { destroyed: false });
  const watch = {
    async *views(signal: AbortSignal): AsyncGenerator<JobView, never> {
      for (const state of states) yield view(state);
      return await new Promise<never>((_resolve, reject) => {
        const onAbort = (): void => reject(signal.reason as Error);
        if (signal.aborted) onAbort();
        signal.addEventListener('abort', onAbort);
      });
    },
  };
  const stopping = new AbortController();
  const ended = new SyncRequests({ watch, stopping: stopping.signal }, { limitMs: 60_000 });
  const wait = (...ids: string[]): Promise<void> =>
    ended.after({ res } as unknown as Context, async () => ids);
  return { res, stopping, ended, watch, wait };
}

t.test('an answer waits for all of its jobs', async (t) => {
  await start({}, { a: 'PROCESSING', b: 'COMPLETED' }, { a: 'COMPLETED', b: 'COMPLETED' }).wait('a', 'b');
  await start({ a: 'PROCESSING' }, {}).wait('a');
  await start().wait();
  await t.rejects(start({ a: 'COMPLETED', b: 'FAILED' }).wait('a', 'b'), {
    code: 'CONVERT_FAILED',
    message: 'b: why',
  });
});

t.test('no wait without an end: a client that goes, a stop, too many, too long', async (t) => {
  const gone = start({ a: 'PROCESSING' });
  const waits = gone.wait('a');
  gone.res.emit('close');
  await t.rejects(waits, { code: 'TIMEOUT', message: 'client is gone' });
  const stopped = start({ a: 'PROCESSING' });
  const all = Array.from({ length: MAX_WAITING }, () => t.rejects(stopped.wait('a'), /stop/));
  await t.rejects(stopped.wait('a'), { code: 'MEMBER_BUSY' });
  stopped.stopping.abort(new Error('stop'));
  await Promise.all(all);
  const { watch, res } = start({ a: 'PROCESSING' });
  const late = new SyncRequests({ watch, stopping: new AbortController().signal }, { limitMs: 1 });
  const client = { res } as unknown as Context;
  await t.rejects(
    late.after(client, async () => ['a']),
    { code: 'TIMEOUT' },
  );
});
