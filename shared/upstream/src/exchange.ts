import type { Readable } from 'node:stream';
import { CodedError, isCoded, systemCode } from '@sepia/base/errors';
import { ignoreFailure, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { isOutOfFiles, outOfFiles } from '@sepia/base/system/open-files';
import { request } from '@sepia/http/loaded/undici';
import type { Dispatcher } from '@sepia/http/sockets';
import { ASIDE_MS, HICCUP_MS } from './deadlines/upstreams.ts';
import type { BodyGate, RequestTurns, SlotGate } from './slot-gate.ts';

/** One answer as it came; its slot is held until the body ended or was destroyed. */
export interface Answer {
  readonly url: URL;
  readonly method: Method;
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Dispatcher.ResponseData['body'];
}

/** Methods of requests to registries. */
export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export interface ExchangeDeps {
  readonly dispatcher: Dispatcher;
  readonly gate: SlotGate | BodyGate;
  /** Taken for each try, once a connection is free. */
  readonly turns?: RequestTurns | undefined;
  /** Whom it goes to may have asked to be left alone, while it waited too. */
  readonly pauses?: Pauses | undefined;
  /** Lanes take turns at both; default: one for all. */
  readonly lane?: string;
  /** Aborted when nobody waits for the answer any more: the place in the queues is given up, and what was sent goes on. */
  readonly unwanted?: AbortSignal | undefined;
  /** Called with true when a try is sent, once it had its turn, and with false when it is answered or has failed. */
  readonly waiting?: ((isWaiting: boolean) => void) | undefined;
  /** Until the answer's headers, in ms, once a connection is free; with a body, once that was sent. */
  readonly headersTimeoutMs: number;
  /** Longest silence in a body, in ms, while somebody reads it. */
  readonly bodyTimeoutMs: number;
  /** What the other side is, for messages; default `upstream registry`. */
  readonly peer?: string | undefined;
}

/** Times in which somebody is not to be asked. */
export interface Pauses {
  /** Called when a try has its place and turn. @throws instead of asking */
  readonly check: () => void;
  /** Told of each answer, before its place is another's. */
  readonly heard: (answer: Pick<Answer, 'status' | 'headers'>) => void;
}

export interface ExchangeRequest {
  readonly url: URL;
  readonly method: Method;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | Readable | undefined;
  /** Sent once and never again, whatever becomes of it: it carries a password. */
  readonly once?: boolean | undefined;
}

/** A body up to this many bytes is read to the end rather than cut. */
const SHORT_BODY_BYTES = 64 * 1024;

/** What a socket says when the other side closed a kept-alive connection just as it was used again. */
const CLOSED_UNDER_US = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

/**
 * Sends one request and waits for its headers. GET and HEAD on a connection that was closed before it answered are tried
 * once more, unless they carry a password: a service may count it as a second try.
 * @throws {CodedError} `BACKEND_DOWN` with `detail.reason`, `UPSTREAM_LIMITED`; the signal's reason when aborted, or that of `unwanted`
 */
export async function exchange(
  deps: ExchangeDeps,
  call: ExchangeRequest,
  signal: AbortSignal,
): Promise<Answer> {
  const mayRepeat = call.once !== true && (call.method === 'GET' || call.method === 'HEAD');
  try {
    return await once(deps, call, signal);
  } catch (thrown) {
    throwIfBug(thrown);
    if (signal.aborted) throw signal.reason;
    if (thrown instanceof CodedError || isGivenUp(deps, thrown)) throw thrown;
    if (!mayRepeat || !CLOSED_UNDER_US.has(reasonOf(thrown))) throw down(call.url, thrown, deps.peer);
  }
  try {
    return await once(deps, call, signal);
  } catch (thrown) {
    throwIfBug(thrown);
    if (signal.aborted) throw signal.reason;
    throw thrown instanceof CodedError || isGivenUp(deps, thrown)
      ? thrown
      : down(call.url, thrown, deps.peer);
  }
}

/** As {@link exchange}, of a small question: a gateway that could not bring it there is asked once more, unless it was shown a password. */
export async function exchangeSmall(
  deps: ExchangeDeps,
  call: ExchangeRequest,
  signal: AbortSignal,
): Promise<Answer> {
  const answer = await exchange(deps, call, signal);
  if (call.once === true || !isHiccup(answer)) return answer;
  // Its place is given back at once.
  answer.body.destroy();
  await delay(HICCUP_MS, signal);
  return await exchange(deps, call, signal);
}

/** A gateway did not reach whom it stands before, and does not say for how long. */
function isHiccup(answer: Answer): boolean {
  return [502, 503, 504].includes(answer.status) && header(answer, 'retry-after') === undefined;
}

/** True for the failure of a body whose connection the other side ended. */
export function isCutUnderUs(error: unknown): boolean {
  return isCoded(error, 'BACKEND_DOWN') && CLOSED_UNDER_US.has(String(error.detail['reason']));
}

function isGivenUp({ unwanted }: ExchangeDeps, thrown: unknown): boolean {
  return unwanted?.aborted === true && thrown === unwanted.reason;
}

async function once(deps: ExchangeDeps, call: ExchangeRequest, signal: AbortSignal): Promise<Answer> {
  const release = await placeOf(deps, signal);
  const late = new AbortController();
  const hasBody = call.body !== undefined;
  const { headersTimeoutMs, peer } = deps;
  const whom = peer === undefined ? call.url.host : `${peer} ${call.url.host}`;
  const onLate = (): void =>
    late.abort(
      new CodedError('BACKEND_DOWN', {
        message: `${whom} did not answer within ${headersTimeoutMs} ms`,
        detail: { host: call.url.host, reason: 'timeout' },
      }),
    );
  // A body may take as long as it moves: the time begins when it is sent.
  const timer = hasBody ? undefined : setTimeout(onLate, headersTimeoutMs);
  try {
    deps.waiting?.(true);
    const answer = await request(call.url, {
      method: call.method,
      headers: call.headers,
      ...(hasBody ? { body: call.body } : {}),
      dispatcher: deps.dispatcher,
      ...(hasBody ? { headersTimeout: headersTimeoutMs } : {}),
      bodyTimeout: deps.bodyTimeoutMs,
      signal: AbortSignal.any([signal, late.signal]),
    });
    deps.pauses?.heard({ status: answer.statusCode, headers: answer.headers });
    answer.body.once('close', release);
    // An error while nobody reads yet would otherwise be uncaught; readers see it when they read.
    answer.body.on('error', () => undefined);
    if (answer.body.closed) release();
    return {
      url: call.url,
      method: call.method,
      // Of an HTTP proxy that changed something (RFC 9110, 15.3.4): a digest says what.
      status: answer.statusCode === 203 ? 200 : answer.statusCode,
      headers: answer.headers,
      body: answer.body,
    };
  } catch (error) {
    release();
    if (late.signal.aborted && !signal.aborted) throw late.signal.reason;
    throw error;
  } finally {
    clearTimeout(timer);
    deps.waiting?.(false);
    if (hasBody && !(call.body instanceof Uint8Array)) call.body!.destroy();
  }
}

/** A place at the gate, and then a turn: what gives the place back. */
async function placeOf(
  { gate, turns, pauses, lane, unwanted }: ExchangeDeps,
  over: AbortSignal,
): Promise<() => void> {
  const signal = unwanted === undefined ? over : AbortSignal.any([over, unwanted]);
  const release = await gate.acquire(signal, lane);
  try {
    await turns?.take(signal, lane ?? '');
    pauses?.check();
    return release;
  } catch (error) {
    release();
    throw error;
  }
}

/** A short machine-readable reason for a failed exchange: the system's or undici's code. */
export function reasonOf(thrown: unknown): string {
  return systemCode(thrown) ?? (thrown instanceof Error ? thrown.name : 'unknown');
}

/** `BACKEND_DOWN` for a connection that failed, in words an operator can act on. */
export function down(url: URL, cause: unknown, peer = 'upstream registry'): CodedError {
  const reason = reasonOf(cause);
  return new CodedError('BACKEND_DOWN', {
    message: isOutOfFiles(cause) ? outOfFiles(cause).message : `${peer} ${url.host}: ${wordsOf(reason)}`,
    detail: { host: url.host, reason },
    cause,
  });
}

function wordsOf(reason: string): string {
  if (reason === 'ECONNREFUSED') return 'connection refused';
  if (reason === 'ENOTFOUND' || reason === 'EAI_AGAIN') return 'host name does not resolve';
  if (reason === 'UND_ERR_CONNECT_TIMEOUT') return 'no connection within the timeout';
  if (reason === 'UND_ERR_BODY_TIMEOUT') return 'no progress in the body within the timeout';
  if (reason === 'TIMEOUT') return 'the body comes too slowly';
  if (/^Z_|ERR_BROTLI|ZSTD/.test(reason)) return `the body is not as its Content-Encoding says (${reason})`;
  if (/CERT|SIGNATURE|ISSUER|ALTNAME/.test(reason))
    return `certificate is not trusted (${reason}); set ca of the upstream`;
  return `connection failed (${reason})`;
}

/** The first value of a header of an answer; undefined where it is not there. `name` in lower case. */
export function header(answer: Pick<Answer, 'headers'>, name: string): string | undefined {
  const value = answer.headers[name];
  return typeof value === 'string' ? value : value?.[0];
}

/** A body that is needed for nothing but words is cut where it does not end in time: until then its slot is held. */
export function endSoon(answer: Answer): void {
  const late = setTimeout(() => answer.body.destroy(), ASIDE_MS);
  late.unref();
  answer.body.once('close', () => clearTimeout(late));
}

/** Lets go of a body that is not wanted: a short one is read to keep the connection, a long one, or one that dawdles, is cut. */
export function discard(answer: Answer): void {
  const isShort =
    answer.method === 'HEAD' || Number(header(answer, 'content-length') ?? Number.NaN) <= SHORT_BODY_BYTES;
  if (!isShort) return void answer.body.destroy();
  endSoon(answer);
  answer.body.dump({ limit: Number.MAX_SAFE_INTEGER }).catch(ignoreFailure);
}
