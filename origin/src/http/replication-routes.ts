import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { fits } from '@sepia/cluster/message';
import { serve } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import { z } from 'zod';
import type { ReplicationIntake } from '../replication/intake.ts';
import type { Replication, WhichJobs } from '../replication/replication.ts';
import type { JobEntry } from '../replication/replication-jobs.ts';
import type { ReplicationQueue } from '../replication/replication-queue.ts';
import { MAX_JOBS } from '../replication/replication-queue.ts';
import { isWriteBackRule } from '../replication/targets.ts';
import { numberOf, repositoryOf, required } from './request.ts';

const MAX_SHOWN = 10_000;

const TEXT = z.string().min(1).max(512);
const CLOCK = z.number().int().nonnegative();
/** What a later version says of a job is kept (ADR 12). */
const JOB = z.looseObject({
  v: z.literal(1),
  rule: TEXT,
  upstream: TEXT,
  repository: TEXT,
  reference: TEXT,
  kind: z.enum(['copy', 'delete']),
  digest: TEXT.optional(),
  take: z.enum(['ours', 'theirs', 'drop']).optional(),
  state: z.enum(['intent', 'waiting', 'dead']),
  createdAtMs: CLOCK,
  tries: CLOCK,
  error: z.string().max(1_000).optional(),
});
const JOBS_BODY = z.object({
  jobs: z
    .array(
      z.object({
        upstream: TEXT,
        repository: TEXT,
        id: z.string().regex(/^[\w.-]{1,128}$/),
        atMs: CLOCK,
        job: JOB.optional(),
      }),
    )
    .max(MAX_JOBS),
});
const RUN_BODY = z.object({ rule: TEXT, id: z.string().regex(/^[\w-]{1,64}$/), atMs: CLOCK });
const WHICH_BODY = z.object({
  rule: TEXT.optional(),
  job: TEXT.optional(),
  dead: z.boolean().optional(),
  atMs: CLOCK,
});

/** Replication: jobs among owners, and what an operator asks. */
export function replicationRoutes(
  router: Router,
  deps: {
    readonly replication: Replication;
    readonly intake: ReplicationIntake;
    readonly queue: ReplicationQueue;
  },
): void {
  const { replication, intake, queue } = deps;
  serve(router, ORIGIN_RECORDS.replicationJobsPut, async (ctx) => {
    const body = await readJson(ctx, ORIGIN_RECORDS.replicationJobsPut.body.maxBytes, fits(JOBS_BODY));
    ctx.body = { later: await queue.take(body.jobs as JobEntry[]) };
    replication.wake();
  });
  serve(router, ORIGIN_RECORDS.replicationRunning, (ctx) => {
    ctx.body = { running: replication.isRunning(required(ctx, 'key')) };
  });
  serve(router, ORIGIN_RECORDS.replicationWaiting, async (ctx) => {
    const [name, rule] = [repositoryOf(ctx), required(ctx, 'rule')];
    ctx.body =
      queryValue(ctx, 'all') === '1'
        ? await queue.ownAllWaiting(name, rule)
        : await queue.ownWaiting(name, rule, queryValue(ctx, 'reference'));
  });
  serve(router, ORIGIN_RECORDS.replication, async (ctx) => {
    const rule = queryValue(ctx, 'rule');
    const isMeant = (one: string): boolean => (rule === undefined ? !isWriteBackRule(one) : one === rule);
    const shown = await replication.shown(isMeant, numberOf(ctx, 'limit', MAX_SHOWN) ?? MAX_SHOWN);
    ctx.body = { counts: replication.counts, jobs: shown };
  });
  serve(router, ORIGIN_RECORDS.replicationRun, async (ctx) => {
    const { rule, id, atMs } = await readJson(
      ctx,
      ORIGIN_RECORDS.replicationRun.body.maxBytes,
      fits(RUN_BODY),
    );
    ctx.body = { queued: await intake.runAll(rule, { id, atMs }) };
  });
  serve(router, ORIGIN_RECORDS.replicationCancel, async (ctx) => {
    const { which, atMs } = await readJson(ctx, ORIGIN_RECORDS.replicationCancel.body.maxBytes, whichOf);
    ctx.body = { changed: await replication.cancel(which, atMs) };
  });
  serve(router, ORIGIN_RECORDS.replicationRetry, async (ctx) => {
    const { which, atMs } = await readJson(ctx, ORIGIN_RECORDS.replicationRetry.body.maxBytes, whichOf);
    ctx.body = { changed: await replication.retry(which, atMs) };
  });
}

/** Jobs that a body names by rule, id, or being dead; it must name something. */
function whichOf(value: unknown): { which: WhichJobs; atMs: number } {
  const { rule, job: wanted, dead, atMs } = fits(WHICH_BODY)(value);
  if (rule === undefined && wanted === undefined && dead !== true)
    throw new CodedError('REQUEST_INVALID', { message: 'name a rule, a job, or dead: true' });
  const which: WhichJobs = (job, id) =>
    !isWriteBackRule(job.rule) &&
    (rule === undefined || job.rule === rule) &&
    (wanted === undefined || id === wanted) &&
    (dead !== true || job.state === 'dead');
  return { which, atMs };
}
