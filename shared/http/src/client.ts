import type { Readable } from 'node:stream';
import { CodedError, isErrorCode } from '@sepia/base/errors';
import { request } from 'undici';
import { PROTOCOL_VERSION } from './app.ts';
import { signCall } from './sign.ts';
import type { Dispatcher } from './sockets.ts';

/** An internal call. `path` starts with `/` and includes the query. */
export interface InternalRequest {
  readonly url: string;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream needs `content-length` in `headers`, else it is sent chunked. */
  readonly body?: Uint8Array | string | Readable;
  /** Until the response headers, in ms. */
  readonly headersTimeoutMs: number;
  /** Longest silence in the body, in ms. */
  readonly bodyTimeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface InternalResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Dispatcher.ResponseData['body'];
}

/** Most bytes of an answer that is read to memory: metainfo of a 1 TiB blob in base64 would be more, a manifest never. */
export const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

interface InternalClientDeps {
  readonly dispatcher: Dispatcher;
  readonly clusterKey: Uint8Array;
  readonly memberId: string;
  readonly nowMs: () => number;
}

/** Signed HTTP calls to other members. Never retries: callers choose another member. */
export class InternalClient {
  readonly #deps: InternalClientDeps;

  constructor(deps: InternalClientDeps) {
    this.#deps = deps;
  }

  /**
   * Sends one call and hands back any answer, also an error status; the caller must read or dump the body.
   * @throws {CodedError} `PEER_HTTP` if no answer came, with the cause
   */
  async raw(call: InternalRequest): Promise<InternalResponse> {
    const { body } = call;
    const bodyBytes =
      body === undefined
        ? 0
        : typeof body === 'string'
          ? Buffer.byteLength(body)
          : body instanceof Uint8Array
            ? body.length
            : Number(call.headers?.['content-length'] ?? -1);
    const authorization = signCall(
      this.#deps.clusterKey,
      this.#deps.memberId,
      { method: call.method, path: call.path, bodyBytes },
      this.#deps.nowMs(),
    );
    try {
      const answer = await request(new URL(call.path, call.url), {
        method: call.method,
        dispatcher: this.#deps.dispatcher,
        headers: { ...call.headers, authorization, 'sepia-version': String(PROTOCOL_VERSION) },
        ...(body === undefined ? {} : { body }),
        headersTimeout: call.headersTimeoutMs,
        bodyTimeout: call.bodyTimeoutMs ?? 30_000,
        signal: call.signal ?? null,
      });
      return { status: answer.statusCode, headers: answer.headers, body: answer.body };
    } catch (cause) {
      if (call.signal?.aborted === true) throw call.signal.reason;
      throw new CodedError('PEER_HTTP', {
        message: `${call.url} does not answer`,
        detail: { url: call.url },
        cause,
      });
    }
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
      throw new CodedError('PEER_HTTP', { message: `${call.url} answered with bad JSON`, cause });
    }
  }
}

/** Reads a whole body of at most `limitBytes`. @throws `PEER_HTTP` when it is cut or larger */
export async function readLimited(
  body: AsyncIterable<Uint8Array>,
  limitBytes: number,
  from: string,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of body) {
      sizeBytes += chunk.length;
      if (sizeBytes > limitBytes)
        throw new CodedError('PEER_HTTP', {
          message: `answer of ${from} is larger than ${limitBytes} bytes`,
        });
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof CodedError) throw cause;
    throw new CodedError('PEER_HTTP', { message: `answer of ${from} was cut`, cause });
  }
  return Buffer.concat(chunks);
}

async function errorOf(call: InternalRequest, answer: InternalResponse): Promise<CodedError> {
  const named = answer.headers['sepia-error'];
  const detail: Record<string, unknown> = { url: call.url, status: answer.status };
  let message: string | undefined;
  const bytes = await readLimited(answer.body, 64 * 1024, call.url).catch(() => Buffer.alloc(0));
  try {
    const parsed = JSON.parse(bytes.toString('utf8')) as {
      errors?: { message?: unknown; detail?: unknown }[];
    };
    const first = parsed.errors?.[0];
    if (typeof first?.message === 'string') message = first.message;
    if (typeof first?.detail === 'object' && first.detail !== null) Object.assign(detail, first.detail);
  } catch {
    // No JSON: the status alone must do.
  }
  const code = typeof named === 'string' && isErrorCode(named) ? named : 'PEER_HTTP';
  return new CodedError(code, message === undefined ? { detail } : { message, detail });
}
