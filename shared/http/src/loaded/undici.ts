import { createRequire } from 'node:module';
import type { Dispatcher } from 'undici';

const load = createRequire(import.meta.url);

type Undici = typeof import('undici');

/**
 * What members use of undici. Its index brings a browser's client, caches and mocks as well: half of its 110 files, and 2 to
 * 3 MiB of every process. Files are no promise of undici's, so its version is fixed, and a test compares with the index.
 */
export const Agent = load('undici/lib/dispatcher/agent.js') as Undici['Agent'];
export const Pool = load('undici/lib/dispatcher/pool.js') as Undici['Pool'];
export const ProxyAgent = load('undici/lib/dispatcher/proxy-agent.js') as Undici['ProxyAgent'];
export const buildConnector = load('undici/lib/core/connect.js') as Undici['buildConnector'];

const dispatcherClass = load('undici/lib/dispatcher/dispatcher.js') as { readonly prototype: object };
/** As undici's index does, of what is used: a client behind an HTTP proxy is connected by it, and callers ask over a dispatcher. */
Object.assign(dispatcherClass.prototype, {
  request: load('undici/lib/api/api-request.js'),
  connect: load('undici/lib/api/api-connect.js'),
});

type RequestOptions = Omit<Dispatcher.RequestOptions, 'origin' | 'path'>;

const ask = load('undici/lib/api/api-request.js') as (
  this: Dispatcher,
  options: Dispatcher.RequestOptions,
) => Promise<Dispatcher.ResponseData>;

/** Sends a request over `dispatcher`, as undici's own function of that name; resolves with the head of the answer. */
export async function request(
  url: URL,
  { dispatcher, ...options }: RequestOptions & { readonly dispatcher: Dispatcher },
): Promise<Dispatcher.ResponseData> {
  return await ask.call(dispatcher, { ...options, origin: url.origin, path: `${url.pathname}${url.search}` });
}
