import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type Router from '@koa/router';
import { H_CLUSTER } from '@sepia/cluster/api/headers';
import { PROXY } from '@sepia/cluster/api/proxy';
import { PROTOCOL_VERSION } from '@sepia/http/app';
import { routed, serve } from '@sepia/http/router';
import { queryValue } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { OwnStatus, StatusGatherer } from './status.ts';

const PAGE_FILES = {
  '/ui/': ['index.html', 'text/html; charset=utf-8'],
  '/ui/style.css': ['style.css', 'text/css; charset=utf-8'],
  '/ui/app.js': ['app.js', 'text/javascript; charset=utf-8'],
} as const;
/** Nothing but our own three files, no inline code, in no frame. */
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

interface PageDeps {
  readonly status: StatusGatherer;
  readonly own: () => OwnStatus;
  readonly clusterVersion: number;
}

/** What the main port serves beside `/v2` and Harbor: health, the page and its data, and `GET /v1/status` for members. */
export function pageRoutes(router: Router, deps: PageDeps): void {
  router.get('/readiness', (context) => {
    routed(context, 'health').body = 'ok\n';
  });
  for (const [path, [name, type]] of Object.entries(PAGE_FILES)) {
    const file = { type, bytes: pageFile(name) };
    router.get(path, (context) => sendFile(routed(context, 'page'), file));
  }
  serve(router, PROXY.status, async (ctx) => {
    ctx.set(H_CLUSTER, String(deps.clusterVersion));
    ctx.body =
      queryValue(ctx, 'self') === '1' ? deps.own() : { ...deps.own(), ...(await deps.status.view()) };
  });
  router.get('/ui/state', async (context) => {
    const ctx = routed(context, 'page-state');
    guard(ctx);
    ctx.set('Cache-Control', 'no-store');
    ctx.body = await deps.status.view();
  });
  for (const path of ['/', '/ui']) router.get(path, (ctx) => ctx.redirect('/ui/'));
}

/** Version shown for this member: the protocol that it speaks. */
export const OWN_VERSION = String(PROTOCOL_VERSION);

function sendFile(ctx: Context, file: { readonly type: string; readonly bytes: Buffer }): void {
  guard(ctx);
  ctx.set('Cache-Control', 'no-cache');
  ctx.body = file.bytes;
  ctx.set('Content-Type', file.type);
}

function guard(ctx: Context): void {
  ctx.set('Content-Security-Policy', CSP);
  ctx.set('X-Content-Type-Options', 'nosniff');
  ctx.set('Referrer-Policy', 'no-referrer');
}

function pageFile(name: string): Buffer {
  return readFileSync(fileURLToPath(new URL(`../../ui/${name}`, import.meta.url)));
}
