import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { parseTag, type Tag } from '@sepia/base/names/repository';
import { H_STALE } from '@sepia/cluster/api/headers';
import type { Cluster } from '@sepia/cluster/cluster';
import { queryValue, readBody, readJson } from '@sepia/http/signed';
import { MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import { parseReference } from '@sepia/oci/route';
import type { RecordStore } from '@sepia/records/record-store';
import { parseRegisterRequest } from '@sepia/records/register/acceptor-store';
import type { Context } from 'koa';
import type { Members } from '../cluster/members.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { PullTimes } from '../manifests/pull-times.ts';
import type { Quotas } from '../records/quotas.ts';
import type { OwnStanding } from '../recovery/own-standing.ts';
import { shardOf } from '../recovery/record-digests.ts';
import type { Purges } from '../removal/purges.ts';
import { named } from './blob-routes.ts';
import { parsePurge } from './messages.ts';
import { broughtAuthorization, changeOf, isHop, repositoryOf, required } from './request.ts';

const MAX_PURGE_BYTES = 4 * 1024;
/** Tags that one push of a manifest may move beside its reference. */
const MAX_PUSHED_TAGS = 100;
const MAX_REGISTER_BYTES = 256 * 1024;

export interface RecordRouteDeps {
  readonly cluster: Cluster;
  readonly records: RecordStore;
  readonly members: Pick<Members, 'shard'>;
  readonly standing: Pick<OwnStanding, 'require'>;
  readonly quotas: Pick<Quotas, 'own'>;
  readonly manifests: Manifests;
  readonly purges: Purges;
  readonly pullTimes: PullTimes;
  readonly status: () => Promise<unknown>;
}

/** Manifests, tags, links, registers, cluster document and status of `/v1`. */
export function recordRoutes(router: Router, deps: RecordRouteDeps): void {
  router.get('/manifests', async (context) => await getManifest(deps, named(context, 'manifest')));
  router.put('/manifests', async (context) => await putManifest(deps, named(context, 'manifest-put')));
  router.get('/usage', async (context) => {
    const ctx = named(context, 'usage');
    const { upstream, repository } = repositoryOf(ctx);
    ctx.body = await deps.quotas.own(upstream, repository);
  });
  router.post('/purge', async (context) => {
    const ctx = named(context, 'purge');
    const what = await readJson(ctx, MAX_PURGE_BYTES, parsePurge);
    ctx.body = await deps.purges.purge(repositoryOf(ctx), what, isHop(ctx));
  });
  router.post('/register', async (context) => {
    const ctx = named(context, 'register');
    const request = await readJson(ctx, MAX_REGISTER_BYTES, parseRegisterRequest);
    const shard = shardOf('r1', request.key);
    if (shard === undefined) throw new CodedError('REQUEST_INVALID', { message: 'register has no such key' });
    deps.standing.require(deps.members.shard(shard));
    ctx.body = await deps.records.registers.handle(request);
  });
  router.get('/cluster', (context) => {
    named(context, 'cluster').body = deps.cluster.document;
  });
  router.get('/status', async (context) => {
    named(context, 'status').body = await deps.status();
  });
}

async function getManifest(deps: RecordRouteDeps, ctx: Context): Promise<void> {
  const answer = await deps.manifests.get(
    repositoryOf(ctx),
    parseReference(required(ctx, 'reference')),
    isHop(ctx),
    { fresh: queryValue(ctx, 'fresh') === '1', authorization: broughtAuthorization(ctx) },
  );
  deps.pullTimes.note(repositoryOf(ctx), required(ctx, 'reference'));
  ctx.set('Docker-Content-Digest', answer.digest);
  ctx.set('ETag', `"${answer.digest}"`);
  if (answer.staleSeconds !== undefined) ctx.set(H_STALE, String(answer.staleSeconds));
  ctx.set('Content-Type', answer.mediaType);
  ctx.status = 200;
  ctx.body = answer.bytes;
  ctx.set('Content-Type', answer.mediaType);
}

async function putManifest(deps: RecordRouteDeps, ctx: Context): Promise<void> {
  const name = repositoryOf(ctx);
  const reference = parseReference(required(ctx, 'reference'));
  const bytes = await readBody(ctx, MAX_MANIFEST_BYTES, () => new CodedError('MANIFEST_TOO_LARGE'));
  const contentType = ctx.get('content-type');
  const { digest, tags } = await deps.manifests.put({
    name,
    reference,
    bytes,
    contentType: contentType === '' ? undefined : contentType,
    furtherTags: furtherTags(ctx),
    change: changeOf(ctx),
  });
  for (const tag of tags) ctx.append('OCI-Tag', tag);
  ctx.set('Docker-Content-Digest', digest);
  ctx.status = 201;
  ctx.body = '';
}

/** `tag` query values of a push. @throws `TAG_INVALID`, `REQUEST_INVALID` */
function furtherTags(ctx: Context): Tag[] {
  const value = ctx.query['tag'] ?? [];
  const tags = (Array.isArray(value) ? value : [value]).map((text) => parseTag(text));
  if (tags.length <= MAX_PUSHED_TAGS) return [...new Set(tags)];
  throw new CodedError('REQUEST_INVALID', { message: `more than ${MAX_PUSHED_TAGS} tags in one push` });
}
