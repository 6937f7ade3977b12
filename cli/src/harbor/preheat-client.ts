import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { readLimited } from '@sepia/http/client';
import type { Dispatcher } from '@sepia/http/sockets';
import { request } from 'undici';
import { HARBOR_MS } from '../deadlines.ts';
import { answeredCode } from '../registry/answered-error.ts';

const DRIVERS_HINT = '; "sepia up --preheat" starts proxies that take preheats';
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/** One origin or node of a job. */
export interface PreheatRow {
  readonly id: string;
  readonly role: string;
  readonly state: 'pending' | 'running' | 'done' | 'failed';
  readonly description?: string;
  readonly doneBytes?: number;
  readonly totalBytes?: number;
}

/** A preheat job in Harbor's words, with the rows that Sepia adds. */
export interface PreheatJob {
  readonly id: number;
  readonly state: 'PENDING' | 'SUCCESS' | 'FAILURE';
  readonly error: string;
  readonly rows: readonly PreheatRow[];
  readonly moreRows: number;
}

/** Preheat jobs at a proxy, by the routes that Harbor uses. */
export class PreheatClient {
  readonly #dispatcher: Dispatcher;
  readonly #proxy: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(
    deps: { readonly dispatcher: Dispatcher },
    proxy: string,
    headers: Readonly<Record<string, string>>,
  ) {
    this.#dispatcher = deps.dispatcher;
    this.#proxy = proxy;
    this.#headers = headers;
  }

  /** @throws {CodedError} what the proxy says, `PEER_HTTP` when it does not answer */
  async create(url: string, scope: string): Promise<PreheatJob> {
    return await this.#send('POST', '/oapi/v1/jobs', {
      type: 'preheat',
      args: { type: 'image', url, scope },
    });
  }

  async get(id: number): Promise<PreheatJob> {
    return await this.#send('GET', `/oapi/v1/jobs/${id}`);
  }

  async #send(method: 'GET' | 'POST', path: string, body?: object): Promise<PreheatJob> {
    let answer: Dispatcher.ResponseData;
    let bytes: Buffer;
    try {
      answer = await request(new URL(path, this.#proxy), {
        method,
        dispatcher: this.#dispatcher,
        headers: { ...this.#headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        headersTimeout: HARBOR_MS,
      });
      bytes = await readLimited(answer.body, MAX_ANSWER_BYTES, this.#proxy);
    } catch (cause) {
      throwIfBug(cause);
      const why = (cause as Error).message;
      throw new CodedError('PEER_HTTP', {
        message: `${this.#proxy} does not answer (${why}); name another proxy with --proxy URL`,
        cause,
      });
    }
    const json = parsed(bytes);
    const status = answer.statusCode;
    if (status >= 400) {
      const said = (json['errors'] as { message?: unknown }[] | undefined)?.[0]?.message;
      const hint = method === 'POST' && status === 404 ? DRIVERS_HINT : '';
      throw new CodedError(answeredCode(answer), {
        message: `${this.#proxy} answers ${status}${typeof said === 'string' ? `: ${said}` : ''}${hint}`,
      });
    }
    const result = (json['result'] ?? {}) as { job_states?: { error?: string }[] };
    const own = (json['sepia'] ?? {}) as { rows?: PreheatRow[]; moreRows?: number };
    return {
      id: json['id'] as number,
      state: json['state'] as PreheatJob['state'],
      error: result.job_states?.[0]?.error ?? '',
      rows: own.rows ?? [],
      moreRows: own.moreRows ?? 0,
    };
  }
}

function parsed(bytes: Buffer): Record<string, unknown> {
  try {
    return (JSON.parse(bytes.toString('utf8')) ?? {}) as Record<string, unknown>;
  } catch (error) {
    throwIfBug(error);
    return {};
  }
}
