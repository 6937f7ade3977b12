import { CodedError, isCoded } from '@sepia/base/errors';
import type { Context, Middleware } from 'koa';
import { type Guard, guardOf, type OpenRoutes } from './open-routes.ts';
import { isOwnHost } from './own-host.ts';
import type { CallVerifier } from './sign.ts';
import { claimsSigned, verifyRequest } from './signed.ts';
import { demandTls } from './tls/listener-tls.ts';

/** Lets the request of somebody who is no member pass by returning, or refuses it by a coded error. */
export type GuardCheck = (ctx: Context) => void | Promise<void>;

interface GateDeps {
  /** What is open to strangers, from `OPEN_ROUTES`. */
  readonly open: OpenRoutes;
  /** The check behind each guard named in `open`, beside `anyone` and `door`. */
  readonly guards?: Readonly<Partial<Record<Guard, GuardCheck>>>;
  /** Host names by which strangers may ask, beside addresses and names of this machine; not given: any. */
  readonly hosts?: () => Iterable<string>;
  /** Checks calls of members; without it no member is known here, and only what is open answers. */
  readonly verifier?: CallVerifier;
}

/** Decides once, before any routing, who may come in; made by {@link createGate} only. */
export type Gate = Middleware & { readonly isGate: true };

const LISTENER_REMEDY = 'ask by its address, or set public-url of its listener';
const INTERNAL_PATH = /^\/v1(?:\/|$)/i;

/**
 * The gate of a listener. A request that claims to come from a member must carry a right signature, whatever its path.
 * Any other passes only on a path of `open`, by that path's guard. The path is compared as routing will read it:
 * undecoded, case by case, whole.
 * Codes: `SIGNATURE_INVALID`, `ROUTE_UNKNOWN`, `REQUEST_INVALID`, `TLS_REQUIRED`, and what guards throw.
 * @throws {TypeError} for a guard without a check
 */
export function createGate(deps: GateDeps): Gate {
  const { open, guards = {}, verifier } = deps;
  for (const guard of Object.values(open)) {
    if (guard !== 'anyone' && guard !== 'door' && guards[guard] === undefined)
      throw new TypeError(`the guard ${guard} has no check`);
  }
  const gate: Middleware = async (ctx, next) => {
    demandPlainHttp(ctx as Context);
    if (!ctx.url.startsWith('/')) toOriginForm(ctx as Context);
    if (verifier !== undefined && claimsSigned(ctx as Context)) {
      demandTls(ctx.req.socket, 'members');
      await verifyRequest(ctx as Context, verifier).catch((error: unknown) => {
        if (isCoded(error, 'SIGNATURE_INVALID')) endConnection(ctx as Context);
        throw error;
      });
    } else {
      demandTls(ctx.req.socket, 'strangers');
      if (deps.hosts !== undefined) demandOwnHost(ctx as Context, deps.hosts(), LISTENER_REMEDY);
      const guard = guardOf(open, ctx.path);
      if (guard === undefined) refuse(ctx as Context, verifier !== undefined);
      await guards[guard]?.(ctx as Context);
    }
    await next();
  };
  return Object.assign(gate, { isGate: true } as const);
}

/**
 * Ends the connection with the answer. Who was led here by a name that is another's by now would ask the wrong member for as long
 * as it lasts: the next one may lead elsewhere.
 */
function endConnection(ctx: Context): void {
  const { req, res } = ctx;
  if (req.complete) {
    ctx.set('Connection', 'close');
    return;
  }
  // What is still being sent would meet a reset, and its sender no answer.
  res.once('finish', () => {
    if (req.complete) req.socket.end();
    else req.once('end', () => req.socket.end());
  });
}

/** One `Host`, so that nobody before or after this process reads another one; HTTP/1 only (RFC 9112 2.3, 3.2). */
function demandPlainHttp({ req }: Context): void {
  if (req.httpVersionMajor !== 1)
    throw new CodedError('REQUEST_INVALID', {
      message: `HTTP/${req.httpVersion} is not spoken here; use 1.1`,
    });
  const hosts = req.rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host');
  if (hosts.length > 1) throw new CodedError('REQUEST_INVALID', { message: 'more than one Host header' });
  if (hosts.length === 0 && req.httpVersionMinor > 0)
    throw new CodedError('REQUEST_INVALID', { message: 'Host header is missing' });
}

/**
 * Refuses a request that asks for another host than this machine's or one of `hosts`. The host of an absolute target
 * counts, else the `Host` header. `remedy` says how else to ask. Codes: `HOST_UNKNOWN`, `REQUEST_INVALID`.
 */
export function demandOwnHost(ctx: Context, hosts: Iterable<string>, remedy: string): void {
  const target = /^https?:\/\/([^/?#\\]+)/i.exec(ctx.originalUrl)?.[1];
  const host = target ?? ctx.get('host');
  if (!/^[a-z0-9._:[\]-]*$/i.test(host))
    throw new CodedError('REQUEST_INVALID', { message: 'Host is not a host name' });
  if (isOwnHost(host, hosts)) return;
  throw new CodedError('HOST_UNKNOWN', {
    message: `"${host.slice(0, 100)}" is not a name of this member; ${remedy}`,
    detail: { host: host.slice(0, 300) },
  });
}

/** Strangers learn nothing of which internal routes there are: all of `/v1` answers alike. */
function refuse(ctx: Context, takesMembers: boolean): never {
  if (takesMembers && INTERNAL_PATH.test(ctx.path))
    throw new CodedError('SIGNATURE_INVALID', { message: 'internal call refused: no signature' });
  throw new CodedError('ROUTE_UNKNOWN', { detail: { path: ctx.path.slice(0, 300) } });
}

/** `GET http://host/path` is asked as `GET /path`, so that signature, gate and routing read the same target. */
function toOriginForm(ctx: Context): void {
  const found = /^https?:\/\/[^/?#\\]+(\/[^#\\]*)?$/i.exec(ctx.url);
  if (found === null) throw new CodedError('REQUEST_INVALID', { message: 'request target is not a path' });
  ctx.url = found[1] ?? '/';
}
