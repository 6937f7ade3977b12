import { CodedError, REDIRECT_REFUSED } from '@sepia/base/errors';
import { type Answer, discard, header } from './exchange.ts';

/** Most redirects followed for one request. */
export const MAX_REDIRECTS = 5;

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

/** As {@link redirectTarget}; lets go of the answer that is followed or refused. */
export function followed(answer: Answer, allowPlain: boolean): URL | undefined {
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
