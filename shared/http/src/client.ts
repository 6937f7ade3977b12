import type { MemberClock } from '@sepia/base/clock/member-clock';
import { CodedError, isErrorCode, systemCode } from '@sepia/base/errors';
import { ignoreFailure, throwIfBug } from '@sepia/base/failure';
import { isOutOfFiles, outOfFiles } from '@sepia/base/system/open-files';
import { askWhole, type CutAnswer, type WholeAnswer } from './bodies/whole-answer.ts';
import { wholeBody } from './bodies/whole-body.ts';
import { BODY_MS } from './deadlines/sockets.ts';
import { request } from './loaded/undici.ts';
import {
  clocksOf,
  dateIn,
  hashOf,
  PROTOCOL_VERSION,
  SIGN_EARLY_MS,
  type SignedBody,
  signCall,
} from './sign.ts';
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
  readonly body?: Uint8Array | string | AsyncIterable<Uint8Array>;
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
/** Most bytes of an error answer. */
const MAX_ERROR_BYTES = 64 * 1024;

interface InternalClientDeps {
  readonly dispatcher: Dispatcher;
  /** Sockets of their own for what lasts; see {@link MemberSockets}. */
  readonly bodies?: Dispatcher;
  readonly sends?: Dispatcher;
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
   * @throws {CodedError} `PEER_HTTP` if no answer came, with the cause; `MEMBER_BUSY` where this process has no socket for it
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
    const { options, heard } = this.#prepared(call);
    try {
      const answer = await request(new URL(call.path, call.url), {
        ...options,
        dispatcher: this.#socketsFor(call),
        signal: call.signal ?? null,
      });
      return {
        isMisdated: heard(answer.headers),
        answer: { status: answer.statusCode, headers: answer.headers, body: answer.body },
      };
    } catch (cause) {
      throwIfBug(cause);
      throw silenceOf(call, cause);
    }
  }

  /** As {@link raw}, with the whole body: at most `limitBytes`, of an error as many as one has. `cause`: it was cut. */
  async #whole(call: InternalRequest, limitBytes: number): Promise<WholeAnswer | CutAnswer> {
    const { answer, isMisdated } = await this.#sendWhole(call, limitBytes);
    return isMisdated ? (await this.#sendWhole(call, limitBytes)).answer : answer;
  }

  async #sendWhole(
    call: InternalRequest,
    limitBytes: number,
  ): Promise<{ readonly answer: WholeAnswer | CutAnswer; readonly isMisdated: boolean }> {
    const { options, heard } = this.#prepared(call);
    const { origin, pathname, search } = new URL(call.path, call.url);
    let isMisdated = false;
    try {
      const answer = await askWhole(
        this.#socketsFor(call),
        { ...options, origin, path: `${pathname}${search}` },
        {
          signal: call.signal,
          limitBytes: (status) => (status < 400 ? limitBytes : MAX_ERROR_BYTES),
          tooLarge: () => tooLarge(call.url, limitBytes),
          onHead: (headers) => {
            isMisdated = heard(headers);
          },
        },
      );
      return { answer, isMisdated };
    } catch (cause) {
      throwIfBug(cause);
      throw silenceOf(call, cause);
    }
  }

  /** What a call is sent with, signed at this moment, and what to do with the head of its answer: true if it was misdated. */
  #prepared(call: InternalRequest): {
    readonly options: Pick<
      Dispatcher.DispatchOptions,
      'method' | 'headers' | 'body' | 'headersTimeout' | 'bodyTimeout'
    >;
    readonly heard: (answered: InternalResponse['headers']) => boolean;
  } {
    const { body } = call;
    const headers = { ...call.headers, 'sepia-version': String(PROTOCOL_VERSION) };
    const { clock, clusterKey } = this.#deps;
    const dateMs = clock.dateFor(call.to);
    const signatures = this.#signatures(call, headers, dateMs);
    const markMs = clock.mark();
    const options = {
      method: call.method,
      headers: { ...headers, ...signatures },
      // Undici sends any iterable of bytes; its types name streams alone.
      ...(body === undefined ? {} : { body: body as NonNullable<Dispatcher.DispatchOptions['body']> }),
      headersTimeout: call.headersTimeoutMs,
      bodyTimeout: call.bodyTimeoutMs ?? BODY_MS,
    };
    const heard = (answered: InternalResponse['headers']): boolean => {
      for (const listener of this.#listeners) listener(call, answered);
      const told = { clock: answered['sepia-clock'], wall: answered['sepia-wall'] };
      const isRefused = answered['sepia-error'] === 'SIGNATURE_INVALID';
      // To prove what is known costs as much as to sign a call.
      const said = { dateMs: dateIn(told.clock) ?? Number.NaN, wallMs: dateIn(told.wall) };
      if (!isRefused && !clock.isNews(call.to, said, markMs)) return false;
      const signature = signatures['sepia-signature'] ?? signatures['authorization'] ?? '';
      const theirs = clocksOf(clusterKey, call.to, signature, told);
      if (theirs === undefined) return false;
      clock.answered(call.to, theirs, markMs);
      return isRefused && Math.abs(theirs.dateMs - dateMs) > SIGN_EARLY_MS;
    };
    return { options, heard };
  }

  #socketsFor({ lasts, body, method }: InternalRequest): Dispatcher {
    const { dispatcher, bodies = dispatcher, sends = bodies, waits = dispatcher } = this.#deps;
    if (isStream(body)) return sends;
    if (lasts === 'body') return method === 'GET' ? bodies : sends;
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
    if (isStream(call.body)) {
      const { headers, status, body } = await this.call(call);
      const bytes = await readLimited(body, limitBytes, call.url).catch((cause: unknown) => {
        throwIfBug(cause);
        throw cutOf(cause, call.url, call.signal);
      });
      return { headers, status, bytes };
    }
    const answer = await this.#whole(call, limitBytes);
    if ('cause' in answer) throwIfBug(answer.cause);
    if (answer.status >= 400) throw errorFrom(call, answer, 'bytes' in answer ? answer.bytes : undefined);
    if ('cause' in answer) throw cutOf(answer.cause, call.url, call.signal);
    return answer;
  }

  /** Reads JSON; sends `json`, where there is any, as the body. An empty answer is undefined. */
  async json<T>(call: InternalRequest & { readonly json?: unknown }): Promise<T> {
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
function isStream(body: InternalRequest['body']): body is AsyncIterable<Uint8Array> {
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
  try {
    return await wholeBody(body, limitBytes, () => tooLarge(from, limitBytes));
  } catch (cause) {
    throwIfBug(cause);
    throw cutOf(cause, from);
  }
}

function tooLarge(from: string, limitBytes: number): CodedError {
  return new CodedError('PEER_HTTP', {
    message: `answer of ${from} is larger than ${limitBytes} bytes`,
    // It did answer.
    detail: { status: 200, limitBytes },
  });
}

/** Why the body of an answer is not whole: `signal`, if that is why, else whoever sent it. */
function cutOf(cause: unknown, from: string, signal?: AbortSignal): unknown {
  throwIfBug(cause);
  if (signal?.aborted === true) return signal.reason;
  if (cause instanceof CodedError) return cause;
  return new CodedError('PEER_HTTP', { message: `answer of ${from} was cut`, cause });
}

/** Why no answer came. */
function silenceOf(call: InternalRequest, cause: unknown): unknown {
  if (call.signal?.aborted === true) return call.signal.reason;
  // It was not asked.
  if (isOutOfFiles(cause)) return outOfFiles(cause);
  return new CodedError('PEER_HTTP', {
    message: `${call.url} does not answer${connectFault(cause)}`,
    detail: { url: call.url },
    cause,
  });
}

/** What it comes to grief by that somebody has to mend: its name, or the TLS handshake (`policies.encryption` of the cluster document). */
function connectFault(cause: unknown): string {
  const code = systemCode(cause) ?? '';
  if (code === 'ENOTFOUND') return ': its name has no address';
  if (code === 'EAI_AGAIN') return ': no name server answers for its name';
  if (code === 'ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR' || code === 'ERR_SSL_BINDER_DOES_NOT_VERIFY')
    return ': it has another cluster key';
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG')
    return ': it takes no encryption; let it follow policies.encryption first';
  return '';
}

async function errorOf(call: InternalRequest, answer: InternalResponse): Promise<CodedError> {
  const bytes = await readLimited(answer.body, MAX_ERROR_BYTES, call.url).catch(ignoreFailure);
  return errorFrom(call, answer, bytes);
}

/** The error that a member named; `bytes`: what it said of it, if all of that came. */
function errorFrom(
  call: InternalRequest,
  answer: Pick<InternalResponse, 'status' | 'headers'>,
  bytes: Buffer | undefined,
): CodedError {
  const named = answer.headers['sepia-error'];
  const detail: Record<string, unknown> = { url: call.url, status: answer.status };
  let message: string | undefined;
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
