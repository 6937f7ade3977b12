import { CodedError, REDIRECT_REFUSED } from '@sepia/base/errors';
import { type Answer, discard, header } from './exchange.ts';

/** Most redirects followed for one request. */
const MAX_REDIRECTS = 5;

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/**
 * Where an answer redirects to; undefined if it is no redirect.
 * @throws {CodedError} `BACKEND_DOWN` when the target is missing or malformed, and with the reason {@link REDIRECT_REFUSED} when it is not http(s), carries
 * credentials, or leaves https and `allowPlain` is not set
 */
export function redirectTarget(answer: Answer, allowPlain: boolean): URL | undefined {
  if (!REDIRECTS.has(answer.status)) return undefined;
  const location = header(answer, 'location');
  if (location === undefined || location === '') throw fault(answer, 'names no Location');
  if (!URL.canParse(location, answer.url.href)) throw fault(answer, 'names a malformed Location');
  const target = new URL(location, answer.url);
  if (target.protocol !== 'https:' && target.protocol !== 'http:')
    throw refused(answer, `leads to ${target.protocol.slice(0, 20)}, which is not http`);
  if (target.username !== '' || target.password !== '')
    throw refused(answer, 'leads to a URL with credentials');
  if (answer.url.protocol === 'https:' && target.protocol === 'http:' && !allowPlain)
    throw refused(answer, 'leaves https; set insecure to follow it');
  target.hash = '';
  return target;
}

/** Where nobody is sent, however often the registry says so. It says nothing about who may read: a fault of the registry. */
function refused(answer: Answer, why: string): CodedError {
  return fault(answer, `${why}; not followed`, { reason: REDIRECT_REFUSED });
}

function fault({ url: { host }, status }: Answer, why: string, more: object = {}): CodedError {
  return new CodedError('BACKEND_DOWN', {
    message: `redirect of ${host} ${why}`,
    detail: { host, status, ...more },
  });
}

/** How one request is sent along its redirects. */
interface Journey {
  /** What is asked, in errors: `registry.example`, `token service auth.example`. */
  readonly name: string;
  readonly upstream: string;
  readonly first: URL;
  /** Whose server may see credentials. */
  readonly home: URL;
  /** Redirects may lead from https to http. */
  readonly allowPlain: boolean;
}

/**
 * Sends a request and follows where the answers lead, at most {@link MAX_REDIRECTS} times. `mayShow` is true while all of the
 * way so far stayed at `home`'s origin: only then may the request carry credentials, and who once left gets none on the way back.
 * @throws {CodedError} as {@link redirectTarget}, `BACKEND_DOWN` after too many, and what `send` throws
 */
export async function follow(
  { name, upstream, first, home, allowPlain }: Journey,
  send: (url: URL, mayShow: boolean) => Promise<Answer>,
): Promise<Answer> {
  let url = first;
  let mayShow = true;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    mayShow &&= url.origin === home.origin;
    const answer = await send(url, mayShow);
    const target = followed(answer, allowPlain);
    if (target === undefined) return answer;
    url = target;
  }
  throw new CodedError('BACKEND_DOWN', {
    message: `${name} redirects more than ${MAX_REDIRECTS} times`,
    detail: { upstream, host: first.host },
  });
}

/** As {@link redirectTarget}; lets go of the answer that is followed or refused. */
function followed(answer: Answer, allowPlain: boolean): URL | undefined {
  let target: URL | undefined;
  try {
    target = redirectTarget(answer, allowPlain);
  } catch (error) {
    discard(answer);
    throw error;
  }
  if (target !== undefined) discard(answer);
  return target;
}
