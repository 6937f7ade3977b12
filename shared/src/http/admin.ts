import type { Logger } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { createApp } from './app.ts';
import { HttpListener } from './listener.ts';

interface AdminDeps {
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Undefined when ready, else why not. */
  readonly notReady: () => string | undefined;
  /** Answers below `/debug/`, by name; only callers on loopback get them. */
  readonly debug?: Readonly<Record<string, () => unknown>>;
}

/** The admin listener: `/livez`, `/readyz`, `/healthz`, `/metrics`, and `/debug/<name>` for loopback. */
export async function startAdmin(deps: AdminDeps, address: string): Promise<HttpListener> {
  const app = createApp({ log: deps.log });
  app.use(async (ctx) => {
    if (ctx.path === '/livez') {
      ctx.body = 'ok\n';
    } else if (ctx.path === '/readyz' || ctx.path === '/healthz') {
      const why = deps.notReady();
      ctx.status = why === undefined ? 200 : 503;
      ctx.body = `${why ?? 'ok'}\n`;
    } else if (ctx.path === '/metrics') {
      ctx.body = await deps.metrics.registry.metrics();
      ctx.type = deps.metrics.registry.contentType;
    } else if (ctx.path.startsWith('/debug/') && isLoopback(ctx.req.socket.remoteAddress)) {
      const answer = deps.debug?.[ctx.path.slice('/debug/'.length)];
      if (answer !== undefined) ctx.body = answer();
    }
  });
  return await HttpListener.start(app.callback(), address, 'admin-listen');
}

function isLoopback(address: string | undefined): boolean {
  return (
    address !== undefined &&
    (address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.'))
  );
}
