import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { ORIGIN_NAMES, ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { REVOCATIONS_BODY, type Revocation } from '@sepia/cluster/api/revocation';
import { fits } from '@sepia/cluster/message';
import { serve } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import type { QuorumSet } from '../records/quorum-set.ts';
import type { Invalidation } from '../removal/invalidation.ts';
import { isRecordSetName, KEYS_BODY, RECORD_KEY, type RecordSetName, recordsBody } from './messages.ts';
import { numberOf, repositoryOf, required } from './request.ts';

const MAX_PAGE = 10_000;

interface SetRouteDeps {
  readonly sets: Readonly<Record<RecordSetName, QuorumSet<unknown>>>;
  readonly invalidation: Invalidation;
}

/** This origin's own records for the other owners, and what they revoke. */
export function setRoutes(router: Router, deps: SetRouteDeps): void {
  serve(router, ORIGIN_RECORDS.records, async (ctx, params) => {
    const set = deps.sets[setName(params.set)];
    const shard = repositoryOf(ctx);
    const key = queryValue(ctx, 'key');
    if (key !== undefined) {
      ctx.body = await set.here.own(shard, checkedKey('key', key));
      return;
    }
    const [after] = RECORD_KEY.safeParse([queryValue(ctx, 'after')]).data ?? [];
    ctx.body = await set.here.ownPage(shard, checkedKey('prefix', required(ctx, 'prefix')), {
      after,
      limit: Math.max(1, numberOf(ctx, 'limit', MAX_PAGE) ?? MAX_PAGE),
    });
  });
  serve(router, ORIGIN_RECORDS.recordsPut, async (ctx, params) => {
    const name = setName(params.set);
    const { maxBytes } = ORIGIN_RECORDS.recordsPut.body;
    const { records } = await readJson(ctx, maxBytes, fits(recordsBody(name)));
    ctx.body = await deps.sets[name].here.putOwn(repositoryOf(ctx), records);
  });
  serve(router, ORIGIN_RECORDS.recordsRead, async (ctx, params) => {
    const set = deps.sets[setName(params.set)];
    const { maxBytes } = ORIGIN_RECORDS.recordsRead.body;
    const { keys } = await readJson(ctx, maxBytes, fits(KEYS_BODY));
    ctx.body = await set.here.ownMany(repositoryOf(ctx), keys);
  });
  serve(router, ORIGIN_NAMES.revocations, async (ctx) => {
    const { maxBytes } = ORIGIN_NAMES.revocations.body;
    const { revoked } = await readJson(ctx, maxBytes, fits(REVOCATIONS_BODY));
    deps.invalidation.take(revoked as Revocation[]);
    ctx.status = 204;
  });
}

function setName(name: string): RecordSetName {
  if (isRecordSetName(name)) return name;
  throw new CodedError('ROUTE_UNKNOWN', { message: 'no such set of records' });
}

function checkedKey(name: string, text: string): string[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('REQUEST_INVALID', { message: `query value ${name} is not valid JSON`, cause });
  }
  const found = RECORD_KEY.safeParse(value);
  if (found.success) return found.data;
  throw new CodedError('REQUEST_INVALID', { message: `query value ${name} is not a list of digests` });
}
