import { CodedError, isCoded } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { type NamedUpstream, type ResolvedName, resolveName } from '@sepia/base/names/upstream-name';
import { H_UPSTREAM } from '@sepia/cluster/api/headers';
import { createApp, type RequestState } from '@sepia/http/app';
import type { Gate } from '@sepia/http/gate';
import { queryValue } from '@sepia/http/signed';
import { parseRegistryPath, type RegistryRoute } from '@sepia/oci/route';
import type Koa from 'koa';
import type { Context, Middleware } from 'koa';
import type { Door } from './door/door.ts';

/** Answers one route; `target` is what the request's name means, `route` the parsed path. Throws coded errors. */
export type RegistryHandler<T extends RegistryRoute['type']> = (
  ctx: Context,
  target: ResolvedName,
  route: Extract<RegistryRoute, { type: T }>,
) => Promise<void>;

/** Answers `GET /v2/_catalog` for one upstream. */
export type CatalogHandler = (ctx: Context, upstream: string) => Promise<void>;

/** The read side, for GET and HEAD. A missing `referrers` is 404, which makes clients use the tag schema. */
export interface RegistryHandlers {
  readonly manifest: RegistryHandler<'manifest'>;
  readonly blob: RegistryHandler<'blob'>;
  /** GET only. */
  readonly tags: RegistryHandler<'tags'>;
  /** GET only. */
  readonly referrers?: RegistryHandler<'referrers'>;
  /** GET only; 404 without it. */
  readonly catalog?: CatalogHandler;
  /** The write side; without it every write is 405 with the `readOnly` message. */
  readonly write?: RegistryWriteHandlers;
}

/** The write side, one function per method and route. */
export interface RegistryWriteHandlers {
  /** POST `<name>/blobs/uploads/` */
  readonly startUpload: RegistryHandler<'uploads'>;
  /** GET of a session */
  readonly uploadStatus: RegistryHandler<'upload'>;
  /** PATCH */
  readonly appendUpload: RegistryHandler<'upload'>;
  /** PUT `?digest=` */
  readonly finishUpload: RegistryHandler<'upload'>;
  /** DELETE of a session */
  readonly cancelUpload: RegistryHandler<'upload'>;
  readonly putManifest: RegistryHandler<'manifest'>;
  readonly deleteManifest: RegistryHandler<'manifest'>;
  readonly deleteBlob: RegistryHandler<'blob'>;
}

interface RegistryAppDeps {
  readonly log: Logger;
  readonly gate: Gate;
  /** As in `createApp`. */
  readonly onRequest?: (facts: { method: string; route: string; status: number; seconds: number }) => void;
  /** Asked per request, so that a new cluster document counts at once. */
  readonly upstreams: () => readonly NamedUpstream[];
  readonly handlers: RegistryHandlers;
  /** Asked before a request of an ordinary client is answered; may wait or throw. */
  readonly admit?: (ctx: Context) => Promise<void>;
  /** Says who may do what, and gives tokens at `/token`; without it everybody may. Members pass. */
  readonly door?: Pick<Door, 'base' | 'catalog' | 'pass' | 'token'>;
  /** Routes for paths outside `/v2`; 404 without them. */
  readonly other?: Middleware;
}

interface RegistryAppOptions {
  /** Upstream of this listener, for requests that name none. */
  readonly defaultUpstream: string | undefined;
  /** Message of the 405 for writes where there is no write side. */
  readonly readOnly?: string;
  /** Proxies whose `X-Forwarded-For` is believed; default none. */
  readonly trustedProxies?: readonly string[];
}

/**
 * The OCI distribution face that agent and proxy share: path → route, name → upstream and repository, method →
 * handler. Codes: `ROUTE_UNKNOWN`, `METHOD_UNSUPPORTED` (with `Allow`), `UPSTREAM_UNKNOWN`, `NAME_INVALID`,
 * `TAG_INVALID`, `DIGEST_SYNTAX`, and what handlers throw.
 */
export function createRegistryApp(deps: RegistryAppDeps, options: RegistryAppOptions): Koa {
  const { log, gate, onRequest } = deps;
  const { trustedProxies = [] } = options;
  const app = createApp({ log, gate, trustedProxies, ...(onRequest === undefined ? {} : { onRequest }) });
  app.use(async (ctx, next) => {
    if (ctx.path === '/token' && deps.door !== undefined) {
      await deps.admit?.(ctx);
      return await deps.door.token(ctx);
    }
    if (ctx.path !== '/v2' && !ctx.path.startsWith('/v2/')) return await next();
    ctx.set('Docker-Distribution-Api-Version', 'registry/2.0');
    const route = routeOf(ctx);
    (ctx.state as RequestState).route = route.type;
    const memberUpstream = upstreamOfMember(ctx);
    if (memberUpstream === undefined) await deps.admit?.(ctx);
    const door = (ctx.state as RequestState).caller === undefined ? deps.door : undefined;
    if (route.type === 'base') {
      await door?.base(ctx);
      return answerBase(ctx);
    }
    const asked: Asked = { ctx, memberUpstream, door, deps, options };
    const run = route.type === 'catalog' ? catalogOf(asked) : passed(asked, route);
    await run.catch((error: unknown) => {
      if (isRefusedByMember(error)) throw withoutMembers(error, deps.log);
      throw isLimited(ctx, route, error) ? asLimited(error) : error;
    });
  });
  if (deps.other !== undefined) app.use(deps.other);
  return app;
}

/** The upstream that a member names in `Sepia-Upstream`; from ordinary clients the header counts for nothing. */
function upstreamOfMember(ctx: Context): string | undefined {
  const upstream = (ctx.state as RequestState).caller === undefined ? '' : ctx.get(H_UPSTREAM);
  return upstream === '' ? undefined : upstream;
}

/** True where another member refused our call, not we the client's. */
function isRefusedByMember(error: unknown): error is CodedError {
  return isCoded(error, 'SIGNATURE_INVALID') && error.detail['url'] !== undefined;
}

/** That the cluster does not take this member's calls is no fault of the client: 503, and a line for the operator. */
function withoutMembers(cause: CodedError, log: Logger): CodedError {
  const message = `${cause.message}; check cluster-key-file and the clock of this member`;
  log.error({ url: cause.detail['url'] }, message);
  return new CodedError('NO_PEERS', { message, detail: { url: cause.detail['url'] }, cause });
}

/**
 * True where an ordinary client is to come back later, as the registry behind asks. Not for blobs: dockerd gives a layer up at
 * a 429, and tries again after a 503.
 */
function isLimited(ctx: Context, { type }: RegistryRoute, error: unknown): error is CodedError {
  const isRead = ctx.method === 'GET' || ctx.method === 'HEAD';
  const isForeign = (ctx.state as RequestState).caller === undefined;
  return isForeign && isRead && type !== 'blob' && isCoded(error, 'UPSTREAM_LIMITED');
}

/** As 429, which clients that know `Retry-After` (skopeo, podman, CRI-O) wait for: at a 503 they end. */
function asLimited({ message, detail, cause }: CodedError): CodedError {
  const retryAfterSeconds = detail['retryAfterSeconds'] ?? 1;
  return new CodedError('OVERLOADED', { message, detail: { ...detail, retryAfterSeconds }, cause });
}

/** A reference that is no legal tag cannot be there: a read of it is 404 (OCI conformance, "Pull"), a write 400. */
function routeOf(ctx: Context): RegistryRoute {
  try {
    return parseRegistryPath(decodeURIComponent(ctx.path));
  } catch (error) {
    const isRead = ctx.method === 'GET' || ctx.method === 'HEAD';
    if (!isRead || !isCoded(error, 'TAG_INVALID')) throw error;
    throw new CodedError('TAG_UNKNOWN', { detail: error.detail, cause: error });
  }
}

function answerBase(ctx: Context): void {
  if (ctx.method !== 'GET' && ctx.method !== 'HEAD') refuse(ctx, ['GET', 'HEAD']);
  ctx.type = 'application/json; charset=utf-8';
  ctx.body = '{}';
}

/** One request below `/v2/`, and what is needed to answer it. */
interface Asked {
  readonly ctx: Context;
  /** Set where a member asks for an upstream by its name. */
  readonly memberUpstream: string | undefined;
  /** None for members. */
  readonly door: RegistryAppDeps['door'];
  readonly deps: RegistryAppDeps;
  readonly options: RegistryAppOptions;
}

function targetOf({ ctx, memberUpstream, deps, options }: Asked, name: string): ResolvedName {
  const upstreams = deps.upstreams();
  if (memberUpstream === undefined) {
    return resolveName(
      { ns: queryValue(ctx, 'ns'), name, defaultUpstream: options.defaultUpstream },
      upstreams,
    );
  }
  if (!upstreams.some((one) => one.name === memberUpstream)) {
    throw new CodedError('UPSTREAM_UNKNOWN', { detail: { upstream: memberUpstream.slice(0, 200) } });
  }
  return { upstream: memberUpstream, repository: parseRepositoryName(name) };
}

async function catalogOf(asked: Asked): Promise<void> {
  const { ctx, door } = asked;
  const { catalog } = asked.deps.handlers;
  if (catalog === undefined) throw new CodedError('ROUTE_UNKNOWN', { message: 'the catalog is not served' });
  if (ctx.method !== 'GET') refuse(ctx, ['GET']);
  // Any legal name says which upstream a request without one means.
  const { upstream } = targetOf(asked, 'any');
  await door?.catalog(ctx, upstream);
  await catalog(ctx, upstream);
}

/** Runs a handler for whom the door lets pass. */
async function passed(asked: Asked, route: NamedRoute): Promise<void> {
  const { ctx, door, deps, options } = asked;
  const run = handlerOf(ctx, route, deps.handlers, options);
  const target = targetOf(asked, route.name);
  if (door === undefined) await run(target);
  else await door.pass(ctx, target, route, () => run(target));
}

type Bound = (target: ResolvedName) => Promise<void>;
type NamedRoute = Exclude<RegistryRoute, { type: 'base' | 'catalog' }>;

function handlerOf(
  ctx: Context,
  route: NamedRoute,
  handlers: RegistryHandlers,
  options: RegistryAppOptions,
): Bound {
  const table = methodsOf(ctx, route, handlers);
  const found = table[ctx.method];
  if (found !== undefined) return found;
  const isWrite = ['POST', 'PUT', 'PATCH', 'DELETE'].includes(ctx.method) || route.type.startsWith('upload');
  const message = isWrite && handlers.write === undefined ? options.readOnly : undefined;
  return refuse(ctx, Object.keys(table), message);
}

function methodsOf(
  ctx: Context,
  route: NamedRoute,
  handlers: RegistryHandlers,
): Readonly<Partial<Record<string, Bound>>> {
  const { write } = handlers;
  switch (route.type) {
    case 'manifest': {
      const read: Bound = (target) => handlers.manifest(ctx, target, route);
      const own = { GET: read, HEAD: read };
      if (write === undefined) return own;
      return {
        ...own,
        PUT: (target) => write.putManifest(ctx, target, route),
        DELETE: (target) => write.deleteManifest(ctx, target, route),
      };
    }
    case 'blob': {
      const read: Bound = (target) => handlers.blob(ctx, target, route);
      const own = { GET: read, HEAD: read };
      return write === undefined ? own : { ...own, DELETE: (target) => write.deleteBlob(ctx, target, route) };
    }
    case 'tags':
      return { GET: (target) => handlers.tags(ctx, target, route) };
    case 'referrers': {
      const { referrers } = handlers;
      if (referrers === undefined) {
        throw new CodedError('ROUTE_UNKNOWN', {
          message: 'referrers are not served; use the referrers tag schema',
        });
      }
      return { GET: (target) => referrers(ctx, target, route) };
    }
    case 'uploads':
      return write === undefined ? {} : { POST: (target) => write.startUpload(ctx, target, route) };
    case 'upload':
      if (write === undefined) return {};
      return {
        GET: (target) => write.uploadStatus(ctx, target, route),
        PATCH: (target) => write.appendUpload(ctx, target, route),
        PUT: (target) => write.finishUpload(ctx, target, route),
        DELETE: (target) => write.cancelUpload(ctx, target, route),
      };
  }
}

function refuse(ctx: Context, allowed: readonly string[], message?: string): never {
  ctx.set('Allow', allowed.join(', '));
  const init = { detail: { method: ctx.method, allow: allowed } };
  throw new CodedError('METHOD_UNSUPPORTED', message === undefined ? init : { ...init, message });
}
