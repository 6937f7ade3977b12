import type Router from '@koa/router';
import { parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { DIGEST } from '@sepia/base/names/digest-schema';
import { ORIGIN_GC } from '@sepia/cluster/api/origin';
import { fits } from '@sepia/cluster/message';
import { serve } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import { z } from 'zod';
import { MAX_GRACE_MS } from '../deadlines/own.ts';
import { MAX_CONDEMNED } from '../fence/core/fence.ts';
import type { Collector } from '../gc/collector.ts';
import type { OwnGc } from '../gc/peers.ts';
import { numberOf, repositoryOf, required } from './request.ts';

const GENERATION = z.string().regex(/^[\w.-]{1,128}$/);
/** Strict: what deletes is refused where a part of the order is not understood. */
const BEGIN = z.strictObject({
  dryRun: z.boolean(),
  graceMs: z.number().int().nonnegative().max(MAX_GRACE_MS),
});
const CONDEMN = z.object({
  generation: GENERATION,
  keys: z.array(z.string().min(1).max(1_024)).max(MAX_CONDEMNED),
});
const RELEASE = z.object({ generation: GENERATION });
const LINKED = z.object({ digests: z.array(DIGEST).max(MAX_CONDEMNED) });
const REMOVE = LINKED.extend({ generation: GENERATION, withCached: z.boolean().default(false) });
const ATMS = z.number().int().nonnegative();
const BURY = z.object({
  generation: GENERATION,
  upstream: z.string().min(1).max(64),
  repository: z.string().min(1).max(255),
  links: z.array(z.object({ digest: DIGEST, atMs: ATMS })).max(MAX_CONDEMNED),
  referrers: z.array(z.object({ subject: DIGEST, digest: DIGEST, atMs: ATMS })).max(1_000_000),
});
const AFTER_KEY = z.array(DIGEST).max(2);

interface GcRouteDeps {
  readonly collector: Collector;
  readonly own: OwnGc;
}

/** Garbage collection: an operator begins one and looks at it; its leader asks every origin. */
export function gcRoutes(router: Router, { collector, own }: GcRouteDeps): void {
  serve(router, ORIGIN_GC.begin, async (ctx) => {
    ctx.body = await collector.begin(await readJson(ctx, ORIGIN_GC.begin.body.maxBytes, fits(BEGIN)));
    ctx.status = 202;
  });
  serve(router, ORIGIN_GC.report, (ctx) => {
    const report = collector.report;
    ctx.body = report === undefined ? {} : { report };
  });
  serve(router, ORIGIN_GC.ready, async (ctx) => {
    ctx.body = await own.ready();
  });
  serve(router, ORIGIN_GC.repositories, async (ctx) => {
    ctx.body = await own.content.repositories(required(ctx, 'upstream'), queryValue(ctx, 'after'));
  });
  serve(router, ORIGIN_GC.records, async (ctx) => {
    const kind = required(ctx, 'kind');
    if (kind !== 'links' && kind !== 'referrers')
      throw new CodedError('REQUEST_INVALID', { message: 'kind: is neither links nor referrers' });
    const after = fits(AFTER_KEY)(jsonOf(queryValue(ctx, 'after') ?? '[]'));
    ctx.body = await own.content.records(repositoryOf(ctx), kind, after);
  });
  serve(router, ORIGIN_GC.tags, async (ctx) => {
    const brief = queryValue(ctx, 'brief') === '1';
    ctx.body = await own.content.tags(repositoryOf(ctx), queryValue(ctx, 'after'), brief);
  });
  serve(router, ORIGIN_GC.layers, async (ctx) => {
    ctx.body = await own.content.layerIndexes(queryValue(ctx, 'after'));
  });
  serve(router, ORIGIN_GC.candidates, async (ctx) => {
    const after = queryValue(ctx, 'after');
    const graceMs = numberOf(ctx, 'grace', MAX_GRACE_MS) ?? MAX_GRACE_MS;
    ctx.body = await own.content.candidates(after === undefined ? undefined : parseDigest(after), graceMs);
  });
  serve(router, ORIGIN_GC.condemn, async (ctx) => {
    const { generation, keys } = await readJson(ctx, ORIGIN_GC.condemn.body.maxBytes, fits(CONDEMN));
    ctx.body = { busy: own.condemn(generation, keys) };
  });
  serve(router, ORIGIN_GC.release, async (ctx) => {
    own.release((await readJson(ctx, ORIGIN_GC.release.body.maxBytes, fits(RELEASE))).generation);
    ctx.body = {};
  });
  serve(router, ORIGIN_GC.bury, async (ctx) => {
    const { generation, upstream, repository, ...dead } = await readJson(
      ctx,
      ORIGIN_GC.bury.body.maxBytes,
      fits(BURY),
    );
    await own.bury(generation, { upstream, repository }, dead);
    ctx.body = {};
  });
  serve(router, ORIGIN_GC.linked, async (ctx) => {
    const { digests } = await readJson(ctx, ORIGIN_GC.linked.body.maxBytes, fits(LINKED));
    ctx.body = { digests: await own.content.linked(digests) };
  });
  serve(router, ORIGIN_GC.remove, async (ctx) => {
    const { generation, digests, withCached } = await readJson(
      ctx,
      ORIGIN_GC.remove.body.maxBytes,
      fits(REMOVE),
    );
    ctx.body = await own.content.remove(generation, digests, withCached);
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new CodedError('REQUEST_INVALID', { message: 'query value after is not valid JSON', cause });
  }
}
