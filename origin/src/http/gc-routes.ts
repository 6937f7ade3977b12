import type Router from '@koa/router';
import { type Digest, isDigest, parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { queryValue, readJson } from '@sepia/http/signed';
import { z } from 'zod';
import type { Collector } from '../gc/collector.ts';
import { MAX_CONDEMNED } from '../gc/core/fence.ts';
import type { OwnGc } from '../gc/peers.ts';
import { named } from './blob-routes.ts';
import { numberOf, repositoryOf, required } from './request.ts';

const MAX_BODY_BYTES = 16 * 1024 * 1024;
const MAX_GRACE_MS = 366 * 24 * 3_600_000;

const DIGEST = z.string().refine((text): text is Digest => isDigest(text), { message: 'is not a digest' });
const GENERATION = z.string().regex(/^[\w.-]{1,128}$/);
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
const REMOVE = LINKED.extend({ generation: GENERATION });
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
  router.post('/gc', async (context) => {
    const ctx = named(context, 'gc');
    ctx.body = await collector.begin(await readJson(ctx, MAX_BODY_BYTES, checker(BEGIN)));
    ctx.status = 202;
  });
  router.get('/gc', (context) => {
    const report = collector.report;
    named(context, 'gc').body = report === undefined ? {} : { report };
  });
  router.get('/gc/ready', async (context) => {
    named(context, 'gc-ready').body = await own.ready();
  });
  router.get('/gc/repositories', async (context) => {
    const ctx = named(context, 'gc-repositories');
    ctx.body = await own.content.repositories(required(ctx, 'upstream'), queryValue(ctx, 'after'));
  });
  router.get('/gc/records', async (context) => {
    const ctx = named(context, 'gc-records');
    const kind = required(ctx, 'kind');
    if (kind !== 'links' && kind !== 'referrers')
      throw new CodedError('REQUEST_INVALID', { message: 'kind: is neither links nor referrers' });
    const after = checker(AFTER_KEY)(jsonOf(queryValue(ctx, 'after') ?? '[]'));
    ctx.body = await own.content.records(repositoryOf(ctx), kind, after);
  });
  router.get('/gc/tags', async (context) => {
    const ctx = named(context, 'gc-tags');
    const brief = queryValue(ctx, 'brief') === '1';
    ctx.body = await own.content.tags(repositoryOf(ctx), queryValue(ctx, 'after'), brief);
  });
  router.get('/gc/layers', async (context) => {
    const ctx = named(context, 'gc-layers');
    ctx.body = await own.content.layerIndexes(queryValue(ctx, 'after'));
  });
  router.get('/gc/candidates', async (context) => {
    const ctx = named(context, 'gc-candidates');
    const after = queryValue(ctx, 'after');
    const graceMs = numberOf(ctx, 'grace', MAX_GRACE_MS) ?? MAX_GRACE_MS;
    ctx.body = await own.content.candidates(after === undefined ? undefined : parseDigest(after), graceMs);
  });
  router.post('/gc/condemn', async (context) => {
    const ctx = named(context, 'gc-condemn');
    const { generation, keys } = await readJson(ctx, MAX_BODY_BYTES, checker(CONDEMN));
    ctx.body = { busy: own.condemn(generation, keys) };
  });
  router.post('/gc/release', async (context) => {
    const ctx = named(context, 'gc-release');
    own.release((await readJson(ctx, MAX_BODY_BYTES, checker(RELEASE))).generation);
    ctx.body = {};
  });
  router.post('/gc/bury', async (context) => {
    const ctx = named(context, 'gc-bury');
    const { generation, upstream, repository, ...dead } = await readJson(ctx, MAX_BODY_BYTES, checker(BURY));
    await own.bury(generation, { upstream, repository }, dead);
    ctx.body = {};
  });
  router.post('/gc/linked', async (context) => {
    const ctx = named(context, 'gc-linked');
    const { digests } = await readJson(ctx, MAX_BODY_BYTES, checker(LINKED));
    ctx.body = { digests: await own.content.linked(digests) };
  });
  router.post('/gc/remove', async (context) => {
    const ctx = named(context, 'gc-remove');
    const { generation, digests } = await readJson(ctx, MAX_BODY_BYTES, checker(REMOVE));
    ctx.body = await own.content.remove(generation, digests);
  });
}

function checker<T extends z.ZodType>(schema: T): (value: unknown) => z.output<T> {
  return (value) => {
    const found = schema.safeParse(value);
    if (found.success) return found.data;
    const [issue] = found.error.issues;
    throw new CodedError('REQUEST_INVALID', { message: `${issue?.path.join('.')}: ${issue?.message}` });
  };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new CodedError('REQUEST_INVALID', { message: 'query value after is not valid JSON', cause });
  }
}
