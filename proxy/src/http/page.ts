import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CodedError } from '@sepia/shared/errors';
import { PROTOCOL_VERSION, type RequestState } from '@sepia/shared/http/app';
import { queryValue } from '@sepia/shared/http/signed';
import { H_CLUSTER } from '@sepia/shared/wire/headers';
import type { Context, Middleware } from 'koa';
import type { OwnStatus, StatusGatherer } from '../net/status.ts';

const PAGE_FILES = {
  '/ui/': ['index.html', 'text/html; charset=utf-8'],
  '/ui/style.css': ['style.css', 'text/css; charset=utf-8'],
  '/ui/app.js': ['app.js', 'text/javascript; charset=utf-8'],
} as const;
/** Nothing but our own three files, no inline code, in no frame. */
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/** For load balancers; `/health` and `/healthy` are Harbor's, see `harbor/routes.ts`. */
const HEALTH_PATHS = new Set(['/readiness']);

interface PageDeps {
  readonly status: StatusGatherer;
  readonly own: () => OwnStatus;
  readonly clusterVersion: number;
  /** Throws unless the call is signed with the cluster key. */
  readonly verify: (ctx: Context) => void;
}

/** What the main port serves beside `/v2`: health, the page and its data, and `GET /v1/status` for members. */
export function pageRoutes(deps: PageDeps): Middleware {
  const files = new Map(
    Object.entries(PAGE_FILES).map(([path, [file, type]]) => [path, { type, bytes: pageFile(file) }]),
  );
  return async (ctx) => {
    const state = ctx.state as RequestState;
    const isRead = ctx.method === 'GET' || ctx.method === 'HEAD';
    const file = files.get(ctx.path);
    const known =
      HEALTH_PATHS.has(ctx.path) ||
      file !== undefined ||
      ['/', '/ui', '/ui/state', '/v1/status'].includes(ctx.path);
    if (!known) throw new CodedError('ROUTE_UNKNOWN', { detail: { path: ctx.path.slice(0, 300) } });
    if (!isRead)
      throw new CodedError('METHOD_UNSUPPORTED', { detail: { method: ctx.method, allow: ['GET', 'HEAD'] } });
    if (HEALTH_PATHS.has(ctx.path)) {
      state.route = 'health';
      ctx.body = 'ok\n';
    } else if (file !== undefined) {
      state.route = 'page';
      sendFile(ctx, file);
    } else if (ctx.path === '/v1/status') {
      state.route = 'status';
      deps.verify(ctx);
      ctx.set(H_CLUSTER, String(deps.clusterVersion));
      ctx.body =
        queryValue(ctx, 'self') === '1' ? deps.own() : { ...deps.own(), ...(await deps.status.view()) };
    } else if (ctx.path === '/ui/state') {
      state.route = 'page-state';
      guard(ctx);
      ctx.set('Cache-Control', 'no-store');
      ctx.body = await deps.status.view();
    } else {
      ctx.redirect('/ui/');
    }
  };
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
