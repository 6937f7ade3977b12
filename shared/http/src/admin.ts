import { timingSafeEqual } from 'node:crypto';
import type { MemberClock } from '@sepia/base/clock/member-clock';
import { CodedError } from '@sepia/base/errors';
import { onLateBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { Metrics } from '@sepia/base/metrics';
import { openFiles, openFilesWarnings } from '@sepia/base/system/open-files';
import type Koa from 'koa';
import type { Context } from 'koa';
import { createApp } from './app.ts';
import { reserveOf } from './core/descriptor-room.ts';
import { createGate, demandOwnHost } from './gate.ts';
import { HttpListener } from './listener.ts';
import { OPEN_ROUTES } from './open-routes.ts';
import { createRouter, listRoutes, routesOf } from './router.ts';

interface AdminDeps {
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Undefined when ready, else why not. */
  readonly notReady: () => string | undefined;
  /** What an operator should see to although this process works: lines of a 200 of `/readyz`. */
  readonly warnings?: () => readonly string[];
  /** Whose clocks are off becomes warnings too, and a metric. */
  readonly clock?: MemberClock;
  /** The app of the main listener, for `/debug/routes`. */
  readonly app: Koa;
  /** Answers below `/debug/`, by name; only callers on loopback that ask by an address or a name of this machine get them. */
  readonly debug?: Readonly<Record<string, () => unknown>>;
  /** Not given: every user of this machine gets them. */
  readonly debugProof?: DebugProof;
}

/** Who may read below `/debug/`: whoever can read `file`, which holds `token`, and sends it as `Authorization: Bearer`. */
export interface DebugProof {
  readonly file: string;
  readonly token: string;
}

/** The admin listener: `/livez`, `/readyz`, `/healthz`, `/metrics`, and `/debug/<name>` for loopback. */
export async function startAdmin(deps: AdminDeps, address: string): Promise<HttpListener> {
  const loopback = (ctx: Context): void => {
    fromHere(ctx);
    if (deps.debugProof !== undefined) demandProof(ctx, deps.debugProof);
  };
  const gate = createGate({ open: OPEN_ROUTES.admin, guards: { loopback } });
  const app = createApp({ log: deps.log, gate });
  deps.metrics.gauge('sepia_ready', '1 while /readyz says 200, else 0.', () =>
    deps.notReady() === undefined ? 1 : 0,
  );
  const unheard = onLateBug((bug) =>
    deps.log.error({ err: bug, bug: true }, 'a bug, when nobody waited for it any more'),
  );
  deps.clock?.measure(deps.metrics);
  const router = createRouter();
  router.get('/livez', (ctx) => {
    ctx.body = 'ok\n';
  });
  for (const path of ['/readyz', '/healthz']) {
    router.get(path, (ctx) => {
      const why = deps.notReady();
      ctx.status = why === undefined ? 200 : 503;
      const files = openFiles();
      const filesWarnings = openFilesWarnings(files, reserveOf(files?.limit ?? 0));
      const lines =
        why === undefined
          ? [...(deps.warnings?.() ?? []), ...(deps.clock?.warnings ?? []), ...filesWarnings]
          : [];
      ctx.body = [why ?? 'ok', ...lines.map((line) => `warning: ${line}`), ''].join('\n');
    });
  }
  router.get('/metrics', async (ctx) => {
    ctx.body = await deps.metrics.registry.metrics();
    ctx.type = deps.metrics.registry.contentType;
  });
  const answers = new Map(
    Object.entries({ ...deps.debug, routes: () => ({ main: listRoutes(deps.app), admin: listRoutes(app) }) }),
  );
  router.get('/debug/:name', async (ctx) => {
    const answer = answers.get(ctx.params['name'] ?? '');
    if (answer !== undefined) ctx.body = await answer();
  });
  app.use(routesOf(router));
  // Whoever asks what is wrong is answered with what is kept in reserve.
  const room = { takes: () => true };
  const listener = await HttpListener.start(app.callback(), address, 'admin-listen', { room });
  listener.onStopped(unheard);
  return listener;
}

/** A caller on loopback that asks for this machine: not a page of another site, in a browser here. */
function fromHere(ctx: Context): void {
  if (!isLoopback(ctx.req.socket.remoteAddress)) throw new CodedError('ROUTE_UNKNOWN');
  demandOwnHost(ctx, [], 'ask by its address');
}

function demandProof(ctx: Context, { file, token }: DebugProof): void {
  const given = Buffer.from(ctx.get('authorization'));
  const wanted = Buffer.from(`Bearer ${token}`);
  if (given.length === wanted.length && timingSafeEqual(given, wanted)) return;
  throw new CodedError('AUTH_REQUIRED', {
    message: `this is for whoever can read ${file}: send its text as "Authorization: Bearer"`,
    detail: { file },
  });
}

function isLoopback(address: string | undefined): boolean {
  return (
    address !== undefined &&
    (address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.'))
  );
}
