import type Router from '@koa/router';
import type { ErrorCode } from '@sepia/base/errors';
import { ORIGIN_WRITE_BACK } from '@sepia/cluster/api/origin';
import type { WriteBackJob, WriteBackStatus } from '@sepia/cluster/api/write-back';
import { fits } from '@sepia/cluster/message';
import { serve } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import { z } from 'zod';
import type { Replication, ShownJob, WhichJobs } from '../replication/replication.ts';
import { isWriteBackRule, writeBackRule } from '../replication/targets.ts';
import { adviceFor } from './core/advice.ts';
import type { OwedTags } from './owed-tags.ts';
import type { WriteBackView } from './start.ts';

const MAX_SHOWN = 10_000;
const TEXT = z.string().min(1).max(512);
/** Strict: an order of which a part is not understood could do more than was meant. */
const RETRY_BODY = z
  .strictObject({
    job: TEXT.optional(),
    upstream: TEXT.optional(),
    dead: z.boolean().optional(),
    take: z.enum(['ours', 'theirs', 'drop']).optional(),
    atMs: z.number().int().nonnegative(),
  })
  .refine(({ take, job }) => take !== 'drop' || job !== undefined, {
    path: ['take'],
    message: 'drop is for one job: name it',
  });

interface WriteBackRouteDeps {
  readonly replication: Replication;
  readonly owedTags: Pick<OwedTags, 'oweAll'>;
  readonly writeBack: Pick<WriteBackView, 'backlogs'>;
}

/** What waits for the registries behind, and an operator's word to try again. */
export function writeBackRoutes(router: Router, deps: WriteBackRouteDeps): void {
  const { replication, owedTags, writeBack } = deps;
  serve(router, ORIGIN_WRITE_BACK.status, async (ctx) => {
    const upstream = queryValue(ctx, 'upstream');
    const isMeant = (rule: string): boolean =>
      upstream === undefined ? isWriteBackRule(rule) : rule === writeBackRule(upstream);
    const jobs = await replication.shown(isMeant, MAX_SHOWN);
    const backlogs = writeBack
      .backlogs()
      .filter((one) => upstream === undefined || one.upstream === upstream);
    const status: WriteBackStatus = { backlogs, jobs: jobs.map((job) => viewOf(job, replication.nowMs())) };
    ctx.body = status;
  });
  serve(router, ORIGIN_WRITE_BACK.retry, async (ctx) => {
    const { job, upstream, dead, take, atMs } = await readJson(
      ctx,
      ORIGIN_WRITE_BACK.retry.body.maxBytes,
      fits(RETRY_BODY),
    );
    const which: WhichJobs = (one, id) =>
      isWriteBackRule(one.rule) &&
      (job === undefined || id === job) &&
      (upstream === undefined || one.upstream === upstream) &&
      (dead !== true || one.state === 'dead');
    const changed = await replication.retry(which, atMs, take);
    ctx.body = { changed: changed + (job === undefined ? (await owedTags.oweAll(upstream)).count : 0) };
  });
}

function viewOf(
  { rule: _rule, take: _take, progress, nextTryAtMs, ...job }: ShownJob,
  nowMs: number,
): WriteBackJob {
  const code = /^([A-Z_]+):/.exec(job.error ?? '')?.[1] as ErrorCode | undefined;
  const advice = code === undefined ? undefined : adviceFor(code, job.error ?? '');
  return {
    ...job,
    ...(advice === undefined ? {} : { advice }),
    ...(nextTryAtMs === undefined ? {} : { againInMs: Math.max(0, Math.round(nextTryAtMs - nowMs)) }),
    ...(progress === undefined ? {} : { sentBytes: progress.sentBytes, missingBytes: progress.missingBytes }),
  };
}
