import { readFileSync } from 'node:fs';
import type Router from '@koa/router';
import type { Context } from 'koa';
import { routed } from './router.ts';

const FILES = {
  '/ui/': ['index.html', 'text/html; charset=utf-8'],
  '/ui/style.css': ['style.css', 'text/css; charset=utf-8'],
  '/ui/app.js': ['app.js', 'text/javascript; charset=utf-8'],
} as const;
/** Nothing but our own three files, no inline code, in no frame. */
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Serves the page of a member below `/ui/`, from a folder with its three files; `/` and `/ui` lead there. */
export function pageFiles(router: Router, folder: URL): void {
  for (const [path, [name, type]] of Object.entries(FILES)) {
    const bytes = readFileSync(new URL(name, folder));
    router.get(path, (context) => {
      const ctx = routed(context, 'page');
      guardPage(ctx);
      ctx.set('Cache-Control', 'no-cache');
      ctx.body = bytes;
      ctx.set('Content-Type', type);
    });
  }
  for (const path of ['/', '/ui']) router.get(path, (ctx) => ctx.redirect('/ui/'));
}

/** Headers of a page and of what it asks for. */
export function guardPage(ctx: Context): void {
  ctx.set('Content-Security-Policy', CSP);
  ctx.set('X-Content-Type-Options', 'nosniff');
  ctx.set('Referrer-Policy', 'no-referrer');
}
