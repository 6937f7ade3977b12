import type Router from '@koa/router';
import { parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { LAYER_CALLS, MAX_INDEX_BYTES } from '@sepia/cluster/api/layer-binding';
import type { RequestState } from '@sepia/http/app';
import { routed } from '@sepia/http/router';
import { queryValue, readBody } from '@sepia/http/signed';
import type { Context } from 'koa';
import { jsonBody } from '../json-body.ts';
import { clientSignal } from '../registry/answers.ts';
import type { LayerBindings } from './layer-bindings.ts';

const BODY = { limitBytes: 16 * 1024, what: 'layers' };

/**
 * What the cluster knows of layers, for accelerators, agents and operators; signed calls only. All name upstream and
 * repository of the layer in the query.
 *
 * `GET /v1/layers/<digest>` → `{binding?}` · `PUT /v1/layers/<digest>` `{binding}` ·
 * `PUT /v1/layers/<digest>/index?digest=` bytes · `POST /v1/layers/<digest>/complaints` `{index, reason}`
 */
export function layerRoutes(router: Router, bindings: LayerBindings): void {
  router.get('/v1/layers/:digest', async (context) => {
    const ctx = routed(context, 'layer');
    const binding = await bindings.get(layerOf(ctx), clientSignal(ctx));
    ctx.body = binding === undefined ? {} : { binding };
  });
  router.put('/v1/layers/:digest', async (context) => {
    const ctx = routed(context, 'layer-bind');
    const { binding } = await jsonBody(ctx, LAYER_CALLS.bind, BODY);
    await bindings.bind(layerOf(ctx), binding, clientSignal(ctx));
    ctx.body = {};
  });
  router.put('/v1/layers/:digest/index', async (context) => {
    const ctx = routed(context, 'layer-index');
    const digest = parseDigest(queryValue(ctx, 'digest') ?? '');
    const tooLarge = (): CodedError =>
      new CodedError('REQUEST_TOO_LARGE', { detail: { limit: MAX_INDEX_BYTES } });
    const bytes = await readBody(ctx, MAX_INDEX_BYTES, tooLarge);
    await bindings.store({ ...layerOf(ctx), digest }, bytes, clientSignal(ctx));
    ctx.body = {};
  });
  router.post('/v1/layers/:digest/complaints', async (context) => {
    const ctx = routed(context, 'layer-complaint');
    const fault = await jsonBody(ctx, LAYER_CALLS.complain, BODY);
    const by = (ctx.state as RequestState).caller ?? '';
    await bindings.complain(layerOf(ctx), { ...fault, by }, clientSignal(ctx));
    ctx.body = {};
  });
}

function layerOf(ctx: Context): BlobName {
  const digest = parseDigest(
    String((ctx as unknown as { params: Record<string, string> }).params['digest'] ?? ''),
  );
  const upstream = queryValue(ctx, 'upstream') ?? '';
  return { upstream, repository: parseRepositoryName(queryValue(ctx, 'repository') ?? ''), digest };
}
