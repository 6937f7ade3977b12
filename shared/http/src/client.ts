import type { Readable } from 'node:stream';
import type { MemberClock } from '@sepia/base/clock/member-clock';
import { CodedError, isErrorCode } from '@sepia/base/errors';
import { ignoreFailure, throwIfBug } from '@sepia/base/failure';
import { request } from 'undici';
import { PROTOCOL_VERSION } from './app.ts';
import { wholeBody } from './bodies/whole-body.ts';
import { BODY_MS } from './deadlines/sockets.ts';
import { clockOf, hashOf, SIGN_SKEW_MS, type SignedBody, signCall } from './sign.ts';
import { signOld } from './sign-old.ts';
import type { Dispatcher } from './sockets.ts';

/** An internal call. `path` starts with `/` and includes the query. */
export interface InternalRequest {
  readonly url: string;
  /** Id of the member at `url`: no other takes the call. */
  readonly to: string;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream needs `content-length` in `headers`, else it is sent chunked. */
  readonly body?: Uint8Array | string | Readable;
  /** Until the response headers, in ms. */
  readonly headersTimeoutMs: number;
  /** Longest silence in the body, in ms. */
  readonly bodyTimeoutMs?: number;
  /** Why it may last: bytes of a blob come, as fast as somebody takes them, or something is waited for. A stream that is sent is a body too. */
  readonly lasts?: 'body' | 'wait' | undefined;
  readonly signal?: AbortSignal;
}

/**
 * An answer of a member. Its body must be read, or dumped with `body.dump()`: else its socket stays taken.
 */
export interface InternalResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Dispatcher.ResponseData['body'];
}

/** Most bytes of an answer that is read to memory: metainfo of a 1 TiB blob in base64 would be more, a manifest never. */
export const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

interface InternalClientDeps {
  readonly dispatcher: Dispatcher;
  /** Sockets of their own for what lasts; see {@link MemberSockets}. */
  readonly bodies?: Dispatcher;
  readonly waits?: Dispatcher;
  readonly clusterKey: Uint8Array;
  readonly memberId: string;
  /** Dates the calls, and learns from the answers how far other clocks are off. */
  readonly clock: MemberClock;
  /** Signs in the former form as well, for members of the former version; see ADR 11. */
  readonly oldSignatures?: boolean;
}

/** Signed HTTP calls to other members. Never retries: callers choose another member. */
export class InternalClient {
  readonly #deps: InternalClientDeps;
  readonly #listeners: ((call: InternalRequest, headers: InternalResponse['headers']) => void)[] = [];

  constructor(deps: InternalClientDeps) {
    this.#deps = deps;
  }

  /** `listener` sees the headers of each answer. */
  onAnswer(listener: (call: InternalRequest, headers: InternalResponse['headers']) => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Sends one call and hands back any answer, also an error status; the caller must read or dump the body. A call that was
   * refused only because the two clocks differ is dated by the other clock and sent once more, where its body is no stream.
   * @throws {CodedError} `PEER_HTTP` if no answer came, with the cause
   */
  async raw(call: InternalRequest): Promise<InternalResponse> {
    const { answer, isMisdated } = await this.#send(call);
    if (!isMisdated || isStream(call.body)) return answer;
    await answer.body.dump();
    return (await this.#send(call)).answer;
  }

  async #send(
    call: InternalRequest,
  ): Promise<{ readonly answer: InternalResponse; readonly isMisdated: boolean }> {
    const { body } = call;
    const headers = { ...call.headers, 'sepia-version': String(PROTOCOL_VERSION) };
    const { clock, clusterKey } = this.#deps;
    const dateMs = clock.dateFor(call.to);
    const signatures = this.#signatures(call, headers, dateMs);
    const markMs = clock.mark();
    try {
      const answer = await request(new URL(call.path, call.url), {
        method: call.method,
        dispatcher: this.#socketsFor(call),
        headers: { ...headers, ...signatures },
        ...(body === undefined ? {} : { body }),
        headersTimeout: call.headersTimeoutMs,
        bodyTimeout: call.bodyTimeoutMs ?? BODY_MS,
        signal: call.signal ?? null,
      });
      const signature = signatures['sepia-signature'] ?? signatures['authorization'] ?? '';
      const theirMs = clockOf(clusterKey, call.to, signature, answer.headers['sepia-clock']);
      if (theirMs !== undefined) clock.answered(call.to, theirMs, markMs);
      for (const listener of this.#listeners) listener(call, answer.headers);
      return {
        answer: { status: answer.statusCode, headers: answer.headers, body: answer.body },
        isMisdated:
          answer.headers['sepia-error'] === 'SIGNATURE_INVALID' &&
          theirMs !== undefined &&
          Math.abs(theirMs - dateMs) > SIGN_SKEW_MS,
      };
    } catch (cause) {
      throwIfBug(cause);
      if (call.signal?.aborted === true) throw call.signal.reason;
      throw new CodedError('PEER_HTTP', {
        message: `${call.url} does not answer`,
        detail: { url: call.url },
        cause,
      });
    }
  }

  #socketsFor({ lasts, body }: InternalRequest): Dispatcher {
    const { dispatcher, bodies = dispatcher, waits = dispatcher } = this.#deps;
    if (lasts === 'body' || isStream(body)) return bodies;
    return lasts === 'wait' ? waits : dispatcher;
  }

  #signatures(
    call: InternalRequest,
    headers: Readonly<Record<string, string>>,
    dateMs: number,
  ): Record<string, string> {
    const { clusterKey, memberId: id, oldSignatures } = this.#deps;
    const { method, path } = call;
    const body = signedBody(call);
    const signature = signCall({ clusterKey, id }, call.to, { method, path, headers, body }, dateMs);
    if (oldSignatures !== true) return { authorization: signature };
    const bodyBytes = body.type === 'hash' ? byteLength(call.body) : body.type === 'length' ? body.bytes : -1;
    const old = signOld({ clusterKey, id }, { method, path, bodyBytes }, dateMs);
    return { authorization: old, 'sepia-signature': signature };
  }

  /** As {@link raw}, but an error status is thrown as the coded error that the other member named. */
  async call(call: InternalRequest): Promise<InternalResponse> {
    const answer = await this.raw(call);
    if (answer.status < 400) return answer;
    throw await errorOf(call, answer);
  }

  async bytes(
    call: InternalRequest,
    limitBytes = MAX_ANSWER_BYTES,
  ): Promise<{ headers: InternalResponse['headers']; status: number; bytes: Buffer }> {
    const answer = await this.call(call);
    return {
      headers: answer.headers,
      status: answer.status,
      bytes: await readLimited(answer.body, limitBytes, call.url),
    };
  }

  /** Sends and reads JSON. An empty answer is undefined. */
  async json<T>(call: Omit<InternalRequest, 'body'> & { readonly json?: unknown }): Promise<T> {
    const { json, ...rest } = call;
    const withBody =
      json === undefined
        ? rest
        : {
            ...rest,
            body: JSON.stringify(json),
            headers: { ...rest.headers, 'content-type': 'application/json' },
          };
    const { bytes } = await this.bytes(withBody);
    if (bytes.length === 0) return undefined as T;
    try {
      return JSON.parse(bytes.toString('utf8')) as T;
    } catch (cause) {
      throwIfBug(cause);
      throw new CodedError('PEER_HTTP', { message: `${call.url} answered with bad JSON`, cause });
    }
  }
}

/** True for a body that is sent as it comes. */
export function isStream(body: InternalRequest['body']): body is Readable {
  return typeof body === 'object' && !(body instanceof Uint8Array);
}

function signedBody({ body, headers }: InternalRequest): SignedBody {
  if (body === undefined) return hashOf('');
  if (typeof body === 'string' || body instanceof Uint8Array) return hashOf(body);
  const length = headers?.['content-length'];
  return length === undefined ? { type: 'chunked' } : { type: 'length', bytes: Number(length) };
}

function byteLength(body: InternalRequest['body']): number {
  return typeof body === 'string' || body instanceof Uint8Array ? Buffer.byteLength(body) : 0;
}

/** Reads a whole body of at most `limitBytes`. @throws `PEER_HTTP` when it is cut or larger */
export async function readLimited(
  body: AsyncIterable<Uint8Array>,
  limitBytes: number,
  from: string,
): Promise<Buffer> {
  const tooLarge = (): CodedError =>
    new CodedError('PEER_HTTP', {
      message: `answer of ${from} is larger than ${limitBytes} bytes`,
      // It did answer.
      detail: { status: 200, limitBytes },
    });
  try {
    return await wholeBody(body, limitBytes, tooLarge);
  } catch (cause) {
    throwIfBug(cause);
    if (cause instanceof CodedError) throw cause;
    throw new CodedError('PEER_HTTP', { message: `answer of ${from} was cut`, cause });
  }
}

async function errorOf(call: InternalRequest, answer: InternalResponse): Promise<CodedError> {
  const named = answer.headers['sepia-error'];
  const detail: Record<string, unknown> = { url: call.url, status: answer.status };
  let message: string | undefined;
  const bytes = await readLimited(answer.body, 64 * 1024, call.url).catch(ignoreFailure);
  try {
    const parsed = JSON.parse(bytes?.toString('utf8') ?? '') as {
      errors?: { message?: unknown; detail?: unknown }[];
    } | null;
    const first = parsed?.errors?.[0];
    if (typeof first?.message === 'string') message = first.message;
    if (typeof first?.detail === 'object' && first.detail !== null) Object.assign(detail, first.detail);
  } catch (error) {
    throwIfBug(error);
    // No JSON: the status alone must do.
  }
  const code = typeof named === 'string' && isErrorCode(named) ? named : 'PEER_HTTP';
  return new CodedError(code, message === undefined ? { detail } : { message, detail });
}
