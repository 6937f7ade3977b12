import { randomUUID } from 'node:crypto';
import { CodedError, isCoded, isOutOfRoom, systemCode } from '@sepia/base/errors';
import { noteBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { LogLimit } from '@sepia/base/log-limit';
import { isOutOfFiles, outOfFiles } from '@sepia/base/system/open-files';
import Koa, { type Context, type Next, type Response } from 'koa';
import { clientAddresses } from './client-address.ts';
import { SAID_MS } from './deadlines/sockets.ts';
import type { Gate } from './gate.ts';
import { SAFETY_HEADERS } from './safety-headers.ts';
import { PROTOCOL_VERSION } from './sign.ts';

/** Longest path with query taken, in characters. */
export const MAX_URL_CHARS = 8 * 1024;

const H_FILL = 'sepia-fill';
/** Longer than any packet on a network without jumbo frames. */
const FILL = '.'.repeat(2_000);

/**
 * Headers of a question whether a member lives: the head of its answer is longer than a packet. Where a path loses, without a
 * word, what does not fit in one, small answers come and nothing that is really asked for does.
 */
export const FILLED: Readonly<Record<string, string>> = { [H_FILL]: '1' };

/** `Retry-After` of a 503 whose cause tells no better. */
const RETRY_AFTER_SECONDS = 5;

/** How the database words a full disk. */
const NO_SPACE = /No space left on device|Disk quota exceeded/;

/** How undici says that an answer broke off or never came. */
const UNDICI_BROKE: ReadonlySet<string> = new Set([
  'UND_ERR_SOCKET',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
]);

interface AppDeps {
  readonly log: Logger;
  /** Decides, before anything else, who may come in; every listener has one. */
  readonly gate: Gate;
  /** Proxies whose `X-Forwarded-For` is believed; default none. */
  readonly trustedProxies?: readonly string[];
  /** The body of an error where a listener words them otherwise; undefined: as always. What is `INTERNAL` says nothing more. */
  readonly wordError?: (path: string, error: CodedError) => object | undefined;
  /** Called once per finished request, for metrics. */
  readonly onRequest?: (facts: { method: string; route: string; status: number; seconds: number }) => void;
}

/** What is known of a request beside Koa's own: filled in by the gate and by routes, read by logs, metrics and errors. */
export interface RequestState {
  requestId: string;
  /** Route name for metrics and logs, never the path itself. */
  route?: string;
  /** Id of the member that signed the call. */
  caller?: string;
  /** The body of a signed call, where the signature needed all of it. */
  body?: Buffer;
  /** Where the client comes from: the connection's other end, or what a trusted proxy says. */
  address?: string;
  /** Who asks may push to the repository that the request names. */
  mayPush?: boolean;
  /** Looks again at what let the request in; throws where it would not any more. For what is done long after its head came. */
  stillMay?: () => Promise<void>;
}

/**
 * A koa app with what every listener needs, outermost first: request id, access log, one mapping of anything
 * thrown to `{"errors":[{code,message,detail}]}`, URL limit, the gate. Routes throw; they never write error bodies.
 */
export function createApp(deps: AppDeps): Koa {
  const app = new Koa();
  answerInText(app);
  const addressOf = clientAddresses(deps.trustedProxies ?? []);
  app.on('error', (error: unknown) => {
    if (!isClientGone(error)) deps.log.debug({ err: error }, 'response ended early');
  });
  app.use(async (ctx, next) => {
    const startedMs = performance.now();
    const given = ctx.get('x-request-id');
    const state = ctx.state as RequestState;
    state.address = addressOf(ctx.req);
    state.requestId = /^[\w.-]{1,64}$/.test(given) ? given : randomUUID();
    ctx.set(SAFETY_HEADERS);
    ctx.set('X-Request-Id', state.requestId);
    ctx.set('Sepia-Version', String(PROTOCOL_VERSION));
    if (ctx.get(H_FILL) !== '') ctx.set(H_FILL, FILL);
    await mapErrors(ctx, next, deps);
    const seconds = (performance.now() - startedMs) / 1000;
    deps.onRequest?.({ method: ctx.method, route: state.route ?? 'other', status: ctx.status, seconds });
    deps.log.debug(
      {
        requestId: state.requestId,
        method: ctx.method,
        url: ctx.url,
        status: ctx.status,
        ms: Math.round(seconds * 1000),
      },
      'request',
    );
  });
  app.use(deps.gate);
  return app;
}

/**
 * What is answered as JSON becomes text at once. koa compares anything else with `Response` first, by which Node loads its own
 * client of HTTP: 2 MiB of every member.
 */
function answerInText(app: Koa): void {
  const own = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(app.response), 'body');
  if (own?.get === undefined || own.set === undefined) throw new TypeError('koa has no body');
  const { get, set } = own;
  Object.defineProperty(app.response, 'body', {
    configurable: true,
    get,
    set(this: Response, value: unknown): void {
      const isText = isJson(value);
      if (isText && !/\bjson\b/i.test(this.type)) this.type = 'json';
      set.call(this, isText ? JSON.stringify(value) : value);
    },
  });
}

function isJson(value: unknown): boolean {
  if (Array.isArray(value)) return true;
  const isPlain =
    typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
  return isPlain || typeof value === 'number' || typeof value === 'boolean';
}

async function mapErrors(
  ctx: Context,
  next: Next,
  { log, wordError }: Pick<AppDeps, 'log' | 'wordError'>,
): Promise<void> {
  try {
    if (ctx.url.length > MAX_URL_CHARS)
      throw new CodedError('REQUEST_INVALID', { message: 'request path is too long' });
    await next();
    if (ctx.status === 404 && ctx.body === undefined && ctx.respond !== false)
      throw new CodedError('ROUTE_UNKNOWN', { detail: { path: ctx.path.slice(0, 300) } });
  } catch (thrown) {
    const error = toCoded(thrown);
    const isWrong = noteBug(thrown);
    if (ctx.headerSent || ctx.respond === false) {
      if (isWrong) log.error({ err: thrown, url: ctx.url, bug: true }, error.message);
      else if (!isClientGone(thrown))
        log.warn({ err: thrown, url: ctx.url }, 'failed after the response began');
      ctx.res.destroy();
      return;
    }
    if (error.facts.status >= 500 && !error.facts.retryable)
      log.error({ err: thrown, url: ctx.url }, error.message);
    writeError(ctx, withoutPlaces(ctx, error, log), wordError);
  }
}

/** Where members listen. */
const MEMBER_URL = /https?:\/\/[\w.:[\]-]+/g;
/** Which member failed a client, for the operator. */
const saidLimit = new LogLimit({ everyMs: SAID_MS, lines: 20 });

/** Keys of an error's detail that tell how the cluster is made: members, places of backends, records on disk. */
const INNER_KEYS = ['url', 'place', 'mark', 'key', 'system'] as const;

/** An error as a client may see it: without addresses of members, backends and records. What is left out goes to the log. */
function withoutPlaces(ctx: Context, error: CodedError, log: Logger): CodedError {
  const { code, message, facts } = error;
  const { caller, requestId } = ctx.state as RequestState;
  const { url, place } = error.detail;
  const isInner = INNER_KEYS.some((key) => error.detail[key] !== undefined) || code === 'PEER_HTTP';
  if (caller !== undefined || !isInner || (facts.status < 500 && url === undefined && place === undefined))
    return error;
  if (facts.status >= 500 && saidLimit.take(`${code} ${String(url)}`, performance.now()) !== undefined)
    log.info({ requestId, code, member: url, place }, message);
  let shown = message;
  if (code === 'PEER_HTTP' || url !== undefined)
    shown = shown.replaceAll(code === 'PEER_HTTP' ? MEMBER_URL : String(url), 'a member of the cluster');
  if (typeof place === 'string' && place !== '') shown = shown.replaceAll(place, 'the blob store');
  const detail = Object.fromEntries(
    Object.entries(error.detail).filter(([key]) => !(INNER_KEYS as readonly string[]).includes(key)),
  );
  return new CodedError(code, { message: shown, detail, cause: error });
}

/** What a route said of its content before it failed: an error must not carry it, least of all be cached by it. */
const CONTENT_HEADERS = ['Content-Length', 'Docker-Content-Digest', 'ETag', 'Cache-Control', 'Accept-Ranges'];

/** Writes the OCI error body of `error`; HEAD gets the headers that GET would. */
function writeError(ctx: Context, error: CodedError, wordError: AppDeps['wordError']): void {
  const { oci, status } = error.facts;
  ctx.status = status;
  ctx.set('Sepia-Error', error.code);
  for (const name of CONTENT_HEADERS) ctx.remove(name);
  const retryAfter = error.detail['retryAfterSeconds'] ?? (status === 503 ? RETRY_AFTER_SECONDS : undefined);
  if (typeof retryAfter === 'number') ctx.set('Retry-After', String(Math.max(1, Math.ceil(retryAfter))));
  const hidden = error.code === 'INTERNAL';
  const shown = hidden ? new CodedError('INTERNAL', { message: 'internal error' }) : error;
  const body = wordError?.(ctx.path, shown) ?? {
    errors: [{ code: oci, message: shown.message, detail: hidden ? null : error.detail }],
  };
  ctx.type = 'application/json; charset=utf-8';
  // HEAD gets the headers of it alone.
  ctx.body = JSON.stringify(body);
  ctx.status = status;
}

/** Anything thrown, as a coded error: disk full, damaged disks and deadlines get their codes, the rest is `INTERNAL`. */
export function toCoded(thrown: unknown): CodedError {
  if (isCoded(thrown)) return thrown;
  if (isOutOfRoom(thrown) || NO_SPACE.test(String(thrown)))
    return new CodedError('DISK_FULL', { cause: thrown });
  if (isOutOfFiles(thrown)) return outOfFiles(thrown);
  if (thrown instanceof URIError)
    return new CodedError('REQUEST_INVALID', { message: 'request path is not valid', cause: thrown });
  // Of `AbortSignal.timeout`: whoever was asked said nothing in time.
  if (thrown instanceof DOMException && thrown.name === 'TimeoutError')
    return new CodedError('TIMEOUT', { cause: thrown });
  if (isBrokenConnection(thrown))
    return new CodedError('PEER_HTTP', {
      message: 'a connection to the source broke; try again',
      cause: thrown,
    });
  return new CodedError('INTERNAL', { cause: thrown });
}

/** A connection that another end broke, or that undici gave up: no fault of our code. */
function isBrokenConnection(thrown: unknown): boolean {
  const code = systemCode(thrown) ?? '';
  return isClientGone(thrown) || code === 'ECONNREFUSED' || code === 'ETIMEDOUT' || UNDICI_BROKE.has(code);
}

/** True for what Node throws where the other end closed the connection, or we did. */
export function isClientGone(thrown: unknown): boolean {
  const code = systemCode(thrown);
  return (
    code === 'ECONNRESET' ||
    code === 'EPIPE' ||
    code === 'ERR_STREAM_PREMATURE_CLOSE' ||
    code === 'ECONNABORTED' ||
    code === 'ERR_STREAM_DESTROYED'
  );
}
