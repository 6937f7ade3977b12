import type Router from '@koa/router';
import { H_CLUSTER } from '@sepia/cluster/api/headers';
import { PROXY } from '@sepia/cluster/api/proxy';
import { guardPage, pageFiles } from '@sepia/http/page-files';
import { routed, serve } from '@sepia/http/router';
import { PROTOCOL_VERSION } from '@sepia/http/sign';
import { queryValue } from '@sepia/http/signed';
import type { Origins } from '../cluster/origins.ts';
import type { OwnStatus, StatusGatherer } from './status.ts';

interface PageDeps {
  readonly status: StatusGatherer;
  readonly own: () => OwnStatus;
  readonly clusterVersion: number;
  readonly origins: Pick<Origins, 'lack'>;
}

/** What the main port serves beside `/v2` and Harbor: health, the page and its data, and `GET /v1/status` for members. */
export function pageRoutes(router: Router, deps: PageDeps): void {
  router.get('/readiness', (context) => {
    const ctx = routed(context, 'health');
    const isReady = deps.origins.lack() === undefined;
    // As /readyz.
    ctx.status = isReady ? 200 : 503;
    // Whoever asks here is told no names of members.
    ctx.body = isReady ? 'ok\n' : 'not ready; /readyz of the admin port says why\n';
  });
  pageFiles(router, new URL('../../ui/', import.meta.url));
  serve(router, PROXY.status, async (ctx) => {
    ctx.set(H_CLUSTER, String(deps.clusterVersion));
    ctx.body =
      queryValue(ctx, 'self') === '1' ? deps.own() : { ...deps.own(), ...(await deps.status.view()) };
  });
  router.get('/ui/state', async (context) => {
    const ctx = routed(context, 'page-state');
    guardPage(ctx);
    ctx.set('Cache-Control', 'no-store');
    ctx.body = await deps.status.view();
  });
}

/** Version shown for this member: the protocol that it speaks. */
export const OWN_VERSION = String(PROTOCOL_VERSION);
