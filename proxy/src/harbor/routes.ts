import { CodedError } from '@sepia/shared/errors';
import type { RequestState } from '@sepia/shared/http/app';
import { readJson } from '@sepia/shared/http/signed';
import type { RepositoryName } from '@sepia/shared/names/repository';
import type { Context } from 'koa';
import { z } from 'zod';
import { parseImageUrl } from '../core/harbor/image-url.ts';
import {
  type JobRequest,
  parseJobRequest,
  parseNotification,
  parseOldPreheat,
} from '../core/harbor/messages.ts';
import { parseWebhook } from '../core/harbor/webhook.ts';
import { jobAnswer, oldAnswer } from './job-answer.ts';
import type { HarborParts } from './parts.ts';

const MAX_BODY_BYTES = 1024 * 1024;
const PURGE_BODY = z.object({
  upstream: z.string().min(1).max(64),
  repository: z.string().min(1).max(255),
  digest: z.string().max(160).optional(),
});

interface HarborRoutesOptions {
  /** The listener's. */
  readonly defaultUpstream: string;
  /** Asked before a request of a client is looked at; may wait or throw. */
  readonly admit: (ctx: Context) => Promise<void>;
}

/** Answers a route of Harbor's; false for paths that are none. */
export function harborRoutes(
  parts: HarborParts,
  { defaultUpstream, admit }: HarborRoutesOptions,
): (ctx: Context) => Promise<boolean> {
  const name = (ctx: Context, route: string): void => {
    (ctx.state as RequestState).route = route;
  };
  const health = async (ctx: Context): Promise<void> => {
    name(ctx, 'health');
    parts.healthAuth(ctx);
    ctx.body = 'ok\n';
  };
  const create = async (ctx: Context, parse: (value: unknown) => JobRequest) => {
    parts.driverAuth(ctx);
    const { url, scope, authorization } = await readJson(ctx, MAX_BODY_BYTES, parse);
    const named = parseImageUrl(url, parts.upstreams(), defaultUpstream);
    return await parts.jobs.create(named.image, named.url, scope, authorization);
  };
  const routes: Readonly<Record<string, (ctx: Context, id: string) => Promise<void>>> = {
    'GET /health': health,
    'GET /healthy': health,
    'POST /registry/notifications': async (ctx) => {
      name(ctx, 'harbor-notification');
      parts.driverAuth(ctx);
      const notices = await readJson(ctx, MAX_BODY_BYTES, parseNotification);
      await parts.kraken.take(notices, defaultUpstream);
      ctx.status = 200;
      ctx.body = 'ok\n';
    },
    'POST /oapi/v1/jobs': async (ctx) => {
      name(ctx, 'harbor-job');
      const job = await create(ctx, parseJobRequest);
      ctx.status = 200;
      ctx.body = jobAnswer(job, []);
    },
    'GET /oapi/v1/jobs/': async (ctx, id) => {
      name(ctx, 'harbor-job-state');
      parts.driverAuth(ctx);
      const { job, rows } = await parts.jobs.get(jobId(id));
      ctx.body = jobAnswer(job, rows);
    },
    'GET /_ping': health,
    'POST /preheats': async (ctx) => {
      name(ctx, 'harbor-preheat-v1');
      const job = await create(ctx, parseOldPreheat);
      ctx.status = 200;
      ctx.body = { ID: String(job.id) };
    },
    'GET /preheats/': async (ctx, id) => {
      name(ctx, 'harbor-preheat-v1-state');
      parts.driverAuth(ctx);
      ctx.body = oldAnswer((await parts.jobs.get(jobId(id))).job);
    },
    'POST /webhooks/harbor': async (ctx) => {
      name(ctx, 'harbor-webhook');
      parts.webhookAuth(ctx);
      const events = await readJson(ctx, MAX_BODY_BYTES, parseWebhook);
      await parts.webhooks.take(events);
      ctx.status = 202;
      ctx.body = { events: events.length };
    },
    'POST /v1/purge': async (ctx) => {
      name(ctx, 'purge');
      parts.verify(ctx);
      const order = await readJson(ctx, MAX_BODY_BYTES, (value) => {
        const checked = PURGE_BODY.safeParse(value);
        if (checked.success) return checked.data;
        throw new CodedError('REQUEST_INVALID', { message: `purge: ${checked.error.issues[0]?.message}` });
      });
      parts.purger.purgeHere(
        order as Parameters<typeof parts.purger.purgeHere>[0] & { repository: RepositoryName },
      );
      ctx.status = 204;
    },
  };
  const paths = new Set(Object.keys(routes).map((key) => key.slice(key.indexOf(' ') + 1)));
  return async (ctx) => {
    const path = ctx.path.replace(/^\/(?:kraken|dragonfly)(?=\/)/, '');
    const withId = /^(\/oapi\/v1\/jobs\/|\/preheats\/)([^/]+)$/.exec(path);
    const base = withId?.[1] ?? path;
    if (!paths.has(base)) return false;
    const method = ctx.method === 'HEAD' ? 'GET' : ctx.method;
    const run = routes[`${method} ${base}`];
    if (run === undefined)
      throw new CodedError('METHOD_UNSUPPORTED', { detail: { method: ctx.method, path: base } });
    if (run !== health && base !== '/v1/purge') await admit(ctx);
    await run(ctx, withId?.[2] ?? '');
    return true;
  };
}

function jobId(text: string): number {
  const id = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(id))
    throw new CodedError('COMMAND_UNKNOWN', { message: `no job ${text.slice(0, 40)} is known` });
  return id;
}
