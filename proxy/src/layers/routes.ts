import type Router from '@koa/router';
import { parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { LAYER_CALLS, MAX_INDEX_BYTES } from '@sepia/cluster/api/layer-binding';
import { PROXY } from '@sepia/cluster/api/proxy';
import { PROFILE_CALL } from '@sepia/cluster/api/start-profile';
import type { RequestState } from '@sepia/http/app';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import { queryValue, readBody } from '@sepia/http/signed';
import type { Context } from 'koa';
import { jsonBody } from '../http/json-body.ts';
import type { LayerBindings } from './layer-bindings.ts';
import type { StartProfiles } from './start-profiles.ts';

const BODY = { limitBytes: PROXY.layerBind.body.maxBytes, what: 'layers' };

/**
 * What the cluster knows of layers, for accelerators, agents and operators. All name upstream and
 * repository of the layer in the query.
 */
export function layerRoutes(router: Router, bindings: LayerBindings): void {
  serve(router, PROXY.layer, async (ctx, params) => {
    const binding = await bindings.get(layerOf(ctx, params.layer), goneSignal(ctx));
    ctx.body = binding === undefined ? {} : { binding };
  });
  serve(router, PROXY.layerBind, async (ctx, params) => {
    const { binding } = await jsonBody(ctx, LAYER_CALLS.bind, BODY);
    await bindings.bind(layerOf(ctx, params.layer), binding, goneSignal(ctx));
    ctx.body = {};
  });
  serve(router, PROXY.layerIndex, async (ctx, params) => {
    const digest = parseDigest(queryValue(ctx, 'digest') ?? '');
    const tooLarge = (): CodedError =>
      new CodedError('REQUEST_TOO_LARGE', { detail: { limit: MAX_INDEX_BYTES } });
    const bytes = await readBody(ctx, MAX_INDEX_BYTES, tooLarge);
    await bindings.store({ ...layerOf(ctx, params.layer), digest }, bytes, goneSignal(ctx));
    ctx.body = {};
  });
  serve(router, PROXY.layerComplaint, async (ctx, params) => {
    const fault = await jsonBody(ctx, LAYER_CALLS.complain, BODY);
    const by = (ctx.state as RequestState).caller ?? '';
    await bindings.complain(layerOf(ctx, params.layer), { ...fault, by }, goneSignal(ctx));
    ctx.body = {};
  });
}

/** What starts of images read: told to members, kept for operators. */
export function profileRoutes(router: Router, profiles: StartProfiles): void {
  serve(router, PROXY.profile, async (ctx) => {
    const profile = await profiles.get(repositoryOf(ctx), parseDigest(queryValue(ctx, 'manifest') ?? ''));
    ctx.body = profile === undefined ? {} : { profile };
  });
  serve(router, PROXY.profilePut, async (ctx) => {
    const limit = { limitBytes: PROXY.profilePut.body.maxBytes, what: 'profiles' };
    const { profile } = await jsonBody(ctx, PROFILE_CALL, limit);
    const by = (ctx.state as RequestState).caller ?? 'unknown';
    await profiles.put(repositoryOf(ctx), { ...profile, by });
    ctx.body = {};
  });
}

function repositoryOf(ctx: Context): Pick<BlobName, 'upstream' | 'repository'> {
  const upstream = queryValue(ctx, 'upstream') ?? '';
  return { upstream, repository: parseRepositoryName(queryValue(ctx, 'repository') ?? '') };
}

function layerOf(ctx: Context, layer: string): BlobName {
  return { ...repositoryOf(ctx), digest: parseDigest(layer) };
}
