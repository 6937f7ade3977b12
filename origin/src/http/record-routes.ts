import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { parseTag, type Tag } from '@sepia/base/names/repository';
import { H_STALE } from '@sepia/cluster/api/headers';
import { ORIGIN_NAMES, ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import type { Cluster } from '@sepia/cluster/cluster';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import { queryValue, readBody, readJson } from '@sepia/http/signed';
import { parseReference } from '@sepia/oci/route';
import { parseRegisterRequest } from '@sepia/records/register/acceptor-store';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Context } from 'koa';
import type { Members } from '../cluster/members.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { PullTimes } from '../manifests/pull-times.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { Quotas } from '../records/quotas.ts';
import { answerRegister } from '../records/tags.ts';
import type { Purges } from '../removal/purges.ts';
import { parsePurge, parseWanted } from './messages.ts';
import { broughtAuthorization, changeOf, othersOf, repositoryOf, required } from './request.ts';

/** Tags that one push of a manifest may move beside its reference. */
const MAX_PUSHED_TAGS = 100;

export interface RecordRouteDeps {
  readonly cluster: Cluster;
  readonly records: RecordStore;
  /** As records see the origins, and whether what this one says of them counts. */
  readonly recordMembers: Pick<Members, 'shard'>;
  readonly recordStanding: Pick<OwnStanding, 'require' | 'standing'>;
  /** Gets a membership that a message names and this origin does not know yet. */
  readonly reach: (epoch: number) => Promise<void>;
  readonly quotas: Pick<Quotas, 'own'>;
  readonly manifests: Manifests;
  readonly purges: Purges;
  readonly pullTimes: PullTimes;
  readonly status: () => Promise<unknown>;
}

/** Manifests, tags, links, registers, cluster document and status of `/v1`. */
export function recordRoutes(router: Router, deps: RecordRouteDeps): void {
  serve(router, ORIGIN_NAMES.manifest, async (ctx) => await getManifest(deps, ctx));
  serve(router, ORIGIN_NAMES.manifestPut, async (ctx) => await putManifest(deps, ctx));
  serve(router, ORIGIN_RECORDS.quotaHold, async (ctx) => {
    const wanted = await readJson(ctx, ORIGIN_RECORDS.quotaHold.body.maxBytes, parseWanted);
    ctx.body = await deps.quotas.own(repositoryOf(ctx), wanted);
  });
  serve(router, ORIGIN_NAMES.purge, async (ctx) => {
    const what = await readJson(ctx, ORIGIN_NAMES.purge.body.maxBytes, parsePurge);
    ctx.body = await deps.purges.purge(repositoryOf(ctx), what, othersOf(ctx));
  });
  serve(router, ORIGIN_RECORDS.register, async (ctx) => {
    const request = await readJson(ctx, ORIGIN_RECORDS.register.body.maxBytes, parseRegisterRequest);
    await deps.reach(request.epoch ?? 0);
    const { recordMembers: members, recordStanding: standing, records } = deps;
    ctx.body = await answerRegister({ members, standing, registers: records.registers }, request);
  });
  serve(router, ORIGIN_RECORDS.cluster, (ctx) => {
    ctx.body = deps.cluster.document;
  });
  serve(router, ORIGIN_RECORDS.status, async (ctx) => {
    ctx.body = await deps.status();
  });
}

async function getManifest(deps: RecordRouteDeps, ctx: Context): Promise<void> {
  const answer = await deps.manifests.get(
    repositoryOf(ctx),
    parseReference(required(ctx, 'reference')),
    othersOf(ctx),
    {
      fresh: queryValue(ctx, 'fresh') === '1',
      authorization: broughtAuthorization(ctx),
      signal: goneSignal(ctx),
    },
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
  const { maxBytes } = ORIGIN_NAMES.manifestPut.body;
  const signal = goneSignal(ctx);
  const bytes = await readBody(ctx, maxBytes, () => new CodedError('MANIFEST_TOO_LARGE'));
  const contentType = ctx.get('content-type');
  const { digest, tags } = await deps.manifests.put({
    name,
    reference,
    bytes,
    contentType: contentType === '' ? undefined : contentType,
    furtherTags: furtherTags(ctx),
    change: changeOf(ctx),
    signal,
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
