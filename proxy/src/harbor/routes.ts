import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import type { RepositoryName } from '@sepia/base/names/repository';
import { PROXY } from '@sepia/cluster/api/proxy';
import { fits } from '@sepia/cluster/message';
import type { GuardCheck } from '@sepia/http/gate';
import { DRIVER_PREFIXES } from '@sepia/http/open-routes';
import { routed, serve } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import { z } from 'zod';
import { parseImageUrl } from './core/image-url.ts';
import { type JobRequest, parseJobRequest, parseNotification, parseOldPreheat } from './core/messages.ts';
import { parseWebhook } from './core/webhook.ts';
import { jobAnswer, oldAnswer } from './job-answer.ts';
import type { HarborParts } from './parts.ts';

const MAX_BODY_BYTES = 1024 * 1024;
const PURGE_BODY = z.object({
  upstream: z.string().min(1).max(64),
  repository: z.string().min(1).max(255),
  digest: z.string().max(160).optional(),
});

/**
 * Harbor's routes, each also under both prefixes (Harbor refuses one endpoint twice), and the purge for
 * members. Who may call them was decided at the gate ({@link harborGuards}). `defaultUpstream` is the listener's.
 */
export function harborRoutes(router: Router, parts: HarborParts, defaultUpstream: string): void {
  const create = async (ctx: Context, parse: (value: unknown) => JobRequest) => {
    const { url, scope, authorization } = await readJson(ctx, MAX_BODY_BYTES, parse);
    const named = parseImageUrl(url, parts.upstreams(), defaultUpstream);
    return await parts.jobs.create(named.image, named.url, scope, authorization);
  };
  for (const prefix of DRIVER_PREFIXES) {
    for (const path of ['/health', '/healthy', '/_ping']) {
      router.get(prefix + path, (context) => {
        routed(context, 'health').body = 'ok\n';
      });
    }
    router.post(`${prefix}/registry/notifications`, async (context) => {
      const ctx = routed(context, 'harbor-notification');
      const notices = await readJson(ctx, MAX_BODY_BYTES, parseNotification);
      await parts.kraken.take(notices, defaultUpstream);
      ctx.body = 'ok\n';
    });
    router.post(`${prefix}/oapi/v1/jobs`, async (context) => {
      const ctx = routed(context, 'harbor-job');
      ctx.body = jobAnswer(await create(ctx, parseJobRequest), []);
    });
    router.get(`${prefix}/oapi/v1/jobs/:id`, async (context) => {
      const ctx = routed(context, 'harbor-job-state');
      const { job, rows } = await parts.jobs.get(jobId(context.params['id'] ?? ''));
      ctx.body = jobAnswer(job, rows);
    });
    router.post(`${prefix}/preheats`, async (context) => {
      const ctx = routed(context, 'harbor-preheat-v1');
      ctx.body = { ID: String((await create(ctx, parseOldPreheat)).id) };
    });
    router.get(`${prefix}/preheats/:id`, async (context) => {
      const ctx = routed(context, 'harbor-preheat-v1-state');
      ctx.body = oldAnswer((await parts.jobs.get(jobId(context.params['id'] ?? ''))).job);
    });
    router.post(`${prefix}/webhooks/harbor`, async (context) => {
      const ctx = routed(context, 'harbor-webhook');
      const events = await readJson(ctx, MAX_BODY_BYTES, parseWebhook);
      await parts.webhooks.take(events);
      ctx.status = 202;
      ctx.body = { events: events.length };
    });
  }
  serve(router, PROXY.purge, async (ctx) => {
    const order = await readJson(ctx, PROXY.purge.body.maxBytes, fits(PURGE_BODY, 'purge'));
    parts.purger.purgeHere(
      order as Parameters<typeof parts.purger.purgeHere>[0] & { repository: RepositoryName },
    );
    ctx.status = 204;
  });
}

/** How Harbor proves itself, for the gate. What asks for a secret first waits for its turn, so that nobody guesses fast. */
export function harborGuards(
  parts: Pick<HarborParts, 'driverAuth' | 'healthAuth' | 'webhookAuth'>,
  admit: (ctx: Context) => Promise<void>,
): Record<'driver' | 'health' | 'webhook', GuardCheck> {
  return {
    driver: async (ctx) => {
      await admit(ctx);
      parts.driverAuth(ctx);
    },
    health: parts.healthAuth,
    webhook: async (ctx) => {
      await admit(ctx);
      parts.webhookAuth(ctx);
    },
  };
}

function jobId(text: string): number {
  const id = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(id))
    throw new CodedError('COMMAND_UNKNOWN', { message: `no job ${text.slice(0, 40)} is known` });
  return id;
}
