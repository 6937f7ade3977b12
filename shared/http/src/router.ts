import { createRequire } from 'node:module';
import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import type Koa from 'koa';
import type { Context, Middleware } from 'koa';
import type { RequestState } from './app.ts';

/** Not by `import`: its form for that imports `http`, which loads what `sockets.ts` leaves out. */
const OwnRouter = createRequire(import.meta.url)('@koa/router') as typeof Router;

/** One method and path of a listener, for `/debug/routes`. */
export interface RouteLine {
  readonly method: string;
  /** Parameters as `:name`. */
  readonly path: string;
}

/** A router that takes paths as they are written: case counts, a slash at the end counts. */
export function createRouter(prefix = ''): Router {
  return new OwnRouter({ ...(prefix === '' ? {} : { prefix }), sensitive: true, strict: true });
}

/** Routes of `router`; a path that is there for other methods only is 405 `METHOD_UNSUPPORTED` with `Allow`. */
export function routesOf(router: Router): Middleware {
  const routes = router.routes();
  const run: Middleware = async (ctx, next) => {
    await (routes as unknown as Middleware)(ctx, async () => {
      const allow = methodsOf(ctx as Context);
      if (allow.length > 0) {
        ctx.set('Allow', allow.join(', '));
        throw new CodedError('METHOD_UNSUPPORTED', { detail: { method: ctx.method, allow } });
      }
      await next();
    });
  };
  return Object.assign(run, { router });
}

/** Names of the parameters in a path template: `/blobs/:digest` has `digest`. */
export type PathParams<Path extends string> = Path extends `${string}:${infer Name}/${infer Rest}`
  ? Name | PathParams<Rest>
  : Path extends `${string}:${infer Name}`
    ? Name
    : never;

export type Verb = 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';

/** What a route is registered by: its name in metrics, its method, and its path with parameters as `:name`. */
export interface RouteName<Method extends Verb = Verb, Path extends string = string> {
  readonly name: string;
  readonly method: Method;
  readonly path: Path;
}

/** Registers the answer to a route; `params` are those of its path, decoded. */
export function serve<Path extends string>(
  router: Router,
  { name, method, path }: RouteName<Verb, Path>,
  answer: (ctx: Context, params: Readonly<Record<PathParams<Path>, string>>) => void | Promise<void>,
): void {
  const verb = method.toLowerCase() as Lowercase<Verb>;
  router[verb](path as string, async (context) => {
    const params = context.params as Readonly<Record<PathParams<Path>, string>>;
    await answer(routed(context, name), params);
  });
}

/** Names the route for metrics and logs; the context without the router's own type. */
export function routed(context: unknown, name: string): Context {
  const ctx = context as Context;
  (ctx.state as RequestState).route = name;
  return ctx;
}

/** Every route that a listener has, read from its routers. */
export function listRoutes(app: Koa): RouteLine[] {
  const routers = app.middleware.flatMap((one) => ('router' in one ? [one.router as Router] : []));
  return routers.flatMap((router) =>
    router.stack.flatMap(({ methods, path }) =>
      methods.filter((method) => method !== 'HEAD').map((method) => ({ method, path: String(path) })),
    ),
  );
}

/** Methods of the routes whose path is this one, as the router left them. */
function methodsOf(ctx: Context): string[] {
  const { matched = [] } = ctx as unknown as { matched?: readonly { methods: readonly string[] }[] };
  return [...new Set(matched.flatMap(({ methods }) => methods))].sort();
}
