import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { readLimited } from '@sepia/http/client';
import type { Dispatcher } from '@sepia/http/sockets';
import { basic } from '@sepia/upstream/credentials/basic';
import { request } from 'undici';
import { HARBOR_MS } from '../deadlines.ts';
import { rootText } from './root-text.ts';

const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const PAGE_SIZE = 100;
const MAX_PAGES = 100;
/** Keys whose values nobody is to see. */
const SECRET_KEYS = new Set(['auth_header', 'access_secret', 'secret', 'password', 'token']);

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH';

/** An object as Harbor answers it. */
export type HarborObject = Readonly<Record<string, unknown>>;

interface HarborApiOptions {
  readonly url: string;
  readonly username: string;
  readonly password: string;
  /** Changes are told and not made. */
  readonly dryRun: boolean;
  /** One line for each change. */
  readonly tell: (line: string) => void;
}

/** Harbor's API v2.0, as far as connecting needs it. Errors name the call and what Harbor said of it. */
export class HarborApi {
  readonly #dispatcher: Dispatcher;
  readonly #options: HarborApiOptions;

  constructor(deps: { readonly dispatcher: Dispatcher }, options: HarborApiOptions) {
    this.#dispatcher = deps.dispatcher;
    this.#options = options;
  }

  get url(): string {
    return this.#options.url;
  }

  get dryRun(): boolean {
    return this.#options.dryRun;
  }

  /** An object, undefined if Harbor says 404. */
  async find(path: string): Promise<HarborObject | undefined> {
    const { status, body } = await this.#send('GET', path);
    if (status === 404) return undefined;
    this.#expect('GET', path, status, body);
    return body as HarborObject;
  }

  /** Every object of a list, page by page. */
  async list(path: string): Promise<HarborObject[]> {
    const found: HarborObject[] = [];
    for (let page = 1; page <= MAX_PAGES; page++) {
      const paged = `${path}${path.includes('?') ? '&' : '?'}page=${page}&page_size=${PAGE_SIZE}`;
      const { status, body } = await this.#send('GET', paged);
      this.#expect('GET', paged, status, body);
      const part = Array.isArray(body) ? (body as HarborObject[]) : [];
      found.push(...part);
      if (part.length < PAGE_SIZE) break;
    }
    return found;
  }

  /** Makes a change, or only tells of it. Returns Harbor's status. @throws {CodedError} `PEER_HTTP` unless it is 2xx or one of `allowed` */
  async change(
    method: 'POST' | 'PUT',
    path: string,
    body: HarborObject,
    allowed: readonly number[] = [],
  ): Promise<number> {
    this.#tell(method, path, body);
    if (this.dryRun) return 200;
    const { status, body: said } = await this.#send(method, path, body);
    if (!allowed.includes(status)) this.#expect(method, path, status, said);
    return status;
  }

  /** Makes a change whose answer tells something; empty in a dry run. @throws {CodedError} `PEER_HTTP` unless it is 2xx */
  async make(method: 'POST' | 'PATCH', path: string, body: HarborObject): Promise<HarborObject> {
    this.#tell(method, path, body);
    if (this.dryRun) return {};
    const { status, body: made } = await this.#send(method, path, body);
    this.#expect(method, path, status, made);
    return (made ?? {}) as HarborObject;
  }

  #tell(method: Method, path: string, body: HarborObject): void {
    const { tell, dryRun } = this.#options;
    tell(`${dryRun ? 'would ' : ''}${method} ${path} ${JSON.stringify(masked(body))}`);
  }

  async #send(method: Method, path: string, json?: HarborObject): Promise<{ status: number; body: unknown }> {
    const { url, username, password } = this.#options;
    let status: number;
    let headers: Dispatcher.ResponseData['headers'];
    let text: string;
    try {
      const answer = await request(new URL(`/api/v2.0${path}`, url), {
        method,
        dispatcher: this.#dispatcher,
        headers: {
          accept: 'application/json',
          // Projects are named by their names here: one of digits alone would count as an id.
          'x-is-resource-name': 'true',
          authorization: basic({ username, password }),
          ...(json === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(json === undefined ? {} : { body: JSON.stringify(json) }),
        headersTimeout: HARBOR_MS,
      });
      ({ statusCode: status, headers } = answer);
      text = (await readLimited(answer.body, MAX_ANSWER_BYTES, url)).toString('utf8');
    } catch (cause) {
      throwIfBug(cause);
      throw new CodedError('PEER_HTTP', {
        message: `Harbor at ${url} does not answer to ${method} /api/v2.0${path}: ${rootText(cause)}`,
        cause,
      });
    }
    const leadsTo = status >= 300 && status < 400 ? placeIn(headers['location'], url) : undefined;
    if (leadsTo === undefined) return { status, body: parsed(text) };
    // A password goes to whom it was given for.
    throw new CodedError('PEER_HTTP', {
      message: `Harbor at ${url} leads to ${leadsTo} (${status}): give that address`,
    });
  }

  #expect(method: Method, path: string, status: number, body: unknown): void {
    if (status >= 200 && status < 300) return;
    const errors = (body as { errors?: { message?: unknown }[] } | null)?.errors;
    const said = typeof errors?.[0]?.message === 'string' ? errors[0].message.slice(0, 300) : undefined;
    const hint =
      status === 401 ? 'check user and password' : status === 403 ? 'this user may not do that' : undefined;
    const why = [said, hint].filter((one) => one !== undefined).join('; ');
    throw new CodedError('PEER_HTTP', {
      message: `Harbor answers ${status} to ${method} /api/v2.0${path}${why === '' ? '' : `: ${why}`}`,
    });
  }
}

/** The same with secrets hidden, at any depth. */
export function masked(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(masked);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => {
      const isSecret = SECRET_KEYS.has(key) && one !== '';
      if (key === 'auth_info' && typeof one === 'object' && one !== null)
        return [key, Object.fromEntries(Object.keys(one).map((name) => [name, '***']))];
      return [key, isSecret ? '***' : masked(one)];
    }),
  );
}

/** Scheme and host that an answer leads to, where they are others. */
function placeIn(location: string | string[] | undefined, url: string): string | undefined {
  if (typeof location !== 'string' || !URL.canParse(location, url)) return undefined;
  const { origin } = new URL(location, url);
  return origin === new URL(url).origin ? undefined : origin;
}

function parsed(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}
