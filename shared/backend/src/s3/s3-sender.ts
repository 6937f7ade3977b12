import { Readable } from 'node:stream';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { readLimited } from '@sepia/http/client';
import type { Dispatcher } from '@sepia/http/sockets';
import { type Answer, exchange, type Method } from '@sepia/upstream/exchange';
import { SlotGate } from '@sepia/upstream/slot-gate';
import { SLOT_MS } from '../deadlines.ts';

/** A request as the SDK signed it. */
interface SignedRequest {
  readonly method: string;
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

interface SentAnswer {
  readonly response: {
    readonly statusCode: number;
    readonly headers: Record<string, string>;
    readonly body: Readable;
  };
}

interface S3SenderDeps {
  /** The sockets for a URL. */
  readonly dispatcher: (url: URL) => Dispatcher;
}

export interface S3SenderOptions {
  readonly connections: number;
  /** As of `ExchangeDeps`. */
  readonly headersTimeoutMs: number;
  readonly bodyTimeoutMs: number;
}

/** What the other side is called in messages of errors. */
export const PEER = 'S3 store';

/** An error of S3 is some hundred bytes; the SDK takes seconds, in which nothing else happens, to read a page of a proxy as one. */
const MAX_ERROR_BYTES = 16 * 1024;
/** A page of a listing: 1,000 keys of at most 1,024 bytes, escaped. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

/** Carries what the SDK signed over this process's sockets, with the deadlines of every other client. */
export class S3Sender {
  readonly #deps: S3SenderDeps;
  readonly #options: S3SenderOptions;
  readonly #gate: SlotGate;
  readonly #answers = new WeakMap<object, Answer>();

  constructor(deps: S3SenderDeps, options: S3SenderOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#gate = new SlotGate({ slots: options.connections, queueLimit: 1_000, waitMs: SLOT_MS });
  }

  /** The answer that a body belongs to. */
  answerOf(body: object): Answer {
    const found = this.#answers.get(body);
    if (found === undefined) throw new TypeError('a body of no answer');
    return found;
  }

  /** What the SDK takes as its handler. */
  get handler() {
    return {
      handle: async (request: SignedRequest, options?: { readonly abortSignal?: unknown }) =>
        await this.#send(request, options?.abortSignal as AbortSignal | undefined),
      destroy: (): void => undefined,
      updateHttpClientConfig: (): void => undefined,
      httpHandlerConfigs: () => ({}),
    };
  }

  /** @throws {CodedError} `BACKEND_DOWN`, `UPSTREAM_LIMITED`; the signal's reason */
  async #send(request: SignedRequest, signal = new AbortController().signal): Promise<SentAnswer> {
    const url = urlOf(request);
    const { headersTimeoutMs, bodyTimeoutMs } = this.#options;
    // Bodies are in memory: nothing is gained by waiting for leave to send them.
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => name.toLowerCase() !== 'expect'),
    );
    const answer = await exchange(
      {
        dispatcher: this.#deps.dispatcher(url),
        gate: this.#gate,
        headersTimeoutMs,
        bodyTimeoutMs,
        peer: PEER,
      },
      { url, method: request.method as Method, headers, body: bodyOf(request.body) },
      signal,
    );
    const isContent = answer.status < 300 && request.query?.['x-id'] === 'GetObject';
    const body = isContent ? answer.body : await wholeOf(answer);
    this.#answers.set(body, answer);
    return { response: { statusCode: answer.status, headers: flat(answer.headers), body } };
  }
}

/** What the SDK reads as XML, in memory and of a bounded size. @throws {CodedError} `BACKEND_DOWN` */
async function wholeOf({ status, body, url }: Answer): Promise<Readable> {
  const limitBytes = status < 300 ? MAX_ANSWER_BYTES : MAX_ERROR_BYTES;
  try {
    return Readable.from([await readLimited(body, limitBytes, `${PEER} ${url.host}`)]);
  } catch (error) {
    throwIfBug(error);
    const { message } = error as Error;
    throw new CodedError('BACKEND_DOWN', {
      message: `${message} (status ${status})`,
      detail: { status },
      cause: error,
    });
  }
}

function urlOf({ protocol, hostname, port, path, query = {} }: SignedRequest): URL {
  const pairs: string[] = [];
  for (const [name, value] of Object.entries(query))
    for (const one of Array.isArray(value) ? (value as readonly string[]) : [value as string | null])
      pairs.push(one === null ? escaped(name) : `${escaped(name)}=${escaped(one)}`);
  const search = pairs.length === 0 ? '' : `?${pairs.join('&')}`;
  return new URL(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}${search}`);
}

/** As the signature counts it (RFC 3986). */
function escaped(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function bodyOf(body: unknown): Uint8Array | undefined {
  if (body === undefined || body === null || body === '') return undefined;
  if (typeof body === 'string') return Buffer.from(body);
  if (body instanceof Uint8Array) return body;
  throw new CodedError('INTERNAL', { message: 'a body for the S3 store is neither text nor bytes' });
}

function flat(headers: Answer['headers']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.join(', ') : (value ?? ''),
    ]),
  );
}
