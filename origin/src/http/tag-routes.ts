import type Router from '@koa/router';
import { isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseTag } from '@sepia/base/names/repository';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { ContentGuard } from '../fence/content-guard.ts';
import type { PushIntents } from '../manifests/manifest-push.ts';
import type { Manifests } from '../manifests/manifests.ts';
import { relink } from '../manifests/relink.ts';
import type { Links } from '../records/links.ts';
import type { Referrers } from '../records/referrers.ts';
import { type TagName, type Tags, unknownTag } from '../records/tags.ts';
import { setFault } from '../upstream/core/tag-policy.ts';
import type { RegistryBehind } from '../upstream/registry-behind.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { changeOf, repositoryOf, required } from './request.ts';

interface TagRouteDeps {
  readonly tags: Tags;
  readonly manifests: Manifests;
  readonly upstreams: Upstreams;
  readonly links: Links;
  readonly referrers: Referrers;
  readonly guard: Pick<ContentGuard, 'using'>;
  readonly intake: PushIntents;
  readonly behind: Pick<RegistryBehind, 'look'>;
}

/** What an operator does with one tag: reads its history, points it somewhere. */
export function tagRoutes(router: Router, deps: TagRouteDeps): void {
  serve(router, ORIGIN_NAMES.tagHistory, async (ctx) => {
    const name = tagNameOf(ctx);
    deps.upstreams.get(name.upstream);
    const state = await deps.tags.state(name);
    if (state === undefined) throw unknownTag(name);
    const { policy } = deps.upstreams.tagRules(name);
    ctx.body = { tag: name.tag, policy, digest: state.digest, history: state.history ?? [] };
  });
  serve(router, ORIGIN_NAMES.tagSet, async (ctx) => {
    const name = tagNameOf(ctx);
    const rules = deps.upstreams.tagRules(name);
    const fault = setFault(rules);
    if (fault !== undefined) throw new CodedError('REQUEST_INVALID', { message: `${name.tag}: ${fault}` });
    const change = changeOf(ctx);
    const gone = goneSignal(ctx);
    const digest = await readJson(ctx, ORIGIN_NAMES.tagSet.body.maxBytes, (value) => {
      const found = (value as { digest?: unknown } | null)?.digest;
      if (typeof found === 'string' && isDigest(found)) return found;
      throw new CodedError('REQUEST_INVALID', { message: 'digest: is missing or not a digest' });
    });
    // A tag never points at what cannot be pulled.
    const point = async (): Promise<void> => {
      if (rules.mode !== 'write-back') {
        ctx.body = await deps.tags.move(name, digest, rules, 'set', { change });
        return;
      }
      const reference = { kind: 'tag', tag: name.tag } as const;
      const done = await deps.intake.intend(name, reference, { digest, hasSubject: false });
      const behind = await deps.behind.look(name);
      ctx.body = await deps.tags.move(name, digest, rules, 'set', { change, behind });
      await done();
    };
    await relink(deps, name, digest, point, gone);
  });
}

function tagNameOf(ctx: Context): TagName {
  return { ...repositoryOf(ctx), tag: parseTag(required(ctx, 'tag')) };
}
