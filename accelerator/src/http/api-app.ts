import type { CodedError } from '@sepia/base/errors';
import { steadyMs } from '@sepia/base/reach';
import type { ConversionProgress } from '@sepia/cluster/api/conversions';
import type { Cluster } from '@sepia/cluster/cluster';
import { createApp } from '@sepia/http/app';
import type { GuardCheck } from '@sepia/http/gate';
import { createMemberGate, type MemberGateDeps } from '@sepia/http/member-gate';
import { pageFiles } from '@sepia/http/page-files';
import { createRouter, routesOf } from '@sepia/http/router';
import type Koa from 'koa';
import { JobWatch } from '../events/job-watch.ts';
import type { QueueClient } from '../net/queue-client.ts';
import { type AcceldTask, acceldTask } from './acceld.ts';
import { acceldError } from './answers.ts';
import { eventRoutes } from './event-routes.ts';
import { apiRoutes } from './routes.ts';
import { SyncRequests } from './sync-requests.ts';

interface ApiDeps extends Omit<MemberGateDeps, 'role' | 'guards'> {
  readonly cluster: Cluster;
  readonly queue: QueueClient;
  /** How far a job is that runs here: newer than what the queue knows. */
  readonly progressOf: (id: string) => ConversionProgress | undefined;
  /** Who comes in without a signature. */
  readonly guard: GuardCheck;
  /** Aborted when this accelerator stops. */
  readonly stopping: AbortSignal;
}

/** What an accelerator answers at its main port: the API and the page. */
export function apiApp(deps: ApiDeps): Koa {
  const { cluster, queue, progressOf, guard, log, metrics, stopping } = deps;
  const hostOf = (upstream: string): string =>
    cluster.upstreams.find((one) => one.name === upstream)?.hosts[1] ?? upstream;
  const list = async (): Promise<readonly AcceldTask[]> =>
    (await queue.list()).map((job) => {
      const progress = progressOf(job.id) ?? job.progress;
      return acceldTask(progress === undefined ? job : { ...job, progress }, hostOf);
    });
  const watch = new JobWatch({ list, log });
  metrics.gauge(
    'sepia_accelerator_watchers',
    'Clients that are told of jobs as they change.',
    () => watch.watching,
  );
  const gate = createMemberGate({ ...deps, role: 'accelerator', guards: { webhook: guard } });
  const app = createApp({ log, gate, onRequest: metrics.onRequest, wordError: worded });
  const router = createRouter();
  eventRoutes(router, { list, watch, nowMs: steadyMs, stopping });
  apiRoutes(router, { cluster, queue, list, sync: new SyncRequests({ watch, stopping }) });
  pageFiles(router, new URL('../../ui/', import.meta.url));
  app.use(routesOf(router));
  return app;
}

/** What the gate refuses, and what is not there: clients of the API read it as its other errors. */
function worded(path: string, error: CodedError): object | undefined {
  return path.startsWith('/api/v1/') ? acceldError(error) : undefined;
}
